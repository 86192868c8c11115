"""TensorRT and TensorRT-RTX engines on a GPU."""
