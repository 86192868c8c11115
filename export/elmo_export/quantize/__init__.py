"""The choice of weights that stay FP32, by the ranges that a model's values reach."""
