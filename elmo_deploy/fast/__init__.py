"""Hand-written gradients: each module computes what `elmo_deploy.model` defines, only faster."""
