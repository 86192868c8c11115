"""Comparison of every graph with the reference before a bundle is written."""
