"""The ONNX graphs of an ELMo, written node by node."""
