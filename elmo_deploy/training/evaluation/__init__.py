"""Perplexity, scores and word predictions of a trained language model."""
