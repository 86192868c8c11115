"""Hand-written gradients: each computes what `elmo_deploy.model` defines; tests/fast proves it.

No other directory holds a `torch.autograd.Function`. `Elmo(config, fast=False)` and
`LanguageModel(..., fast=False)` compute the definitions themselves.
"""
