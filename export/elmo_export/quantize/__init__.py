"""The choice of reduced-precision weights, by the ranges that a model's values reach."""
