"""TensorRT and TensorRT-RTX engines, built from a bundle's graphs."""
