"""The largest absolute difference of two correct computations, and the reason."""

# Golden vectors are float32 and were made by TensorFlow, whose sums run in another order.
# Their authors allow 1e-6; the project's float64 computation differs by up to 1.2e-6.
GOLDEN_TORCH = 2e-6
# The graphs run on kernels that approximate tanh and sigmoid; the guarantee to users is 1e-5.
GOLDEN_BUNDLE = 1e-5

# Values are within about 10, and float32 rounds each sum by 6e-8 of it: 30 random models differed
# by at most 1.4e-6.
TORCH_FLOAT32 = 4e-6
# The same formula in float64 twice: only the order of sums differs.
TORCH_FLOAT64 = 1e-12

# Slope by central differences in float64 against a gradient stored as float32 (6e-8), as a share
# of the gradient's length: 7e-8 was the measured maximum.
SLOPE_RELATIVE = 1e-6
# A bundle against the oracle: float32, and ONNX Runtime's own tanh and sigmoid; the guarantee of
# `verify`.
BUNDLE_FLOAT32 = 1e-5
