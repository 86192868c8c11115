"""The reference model, its training and the command line."""
