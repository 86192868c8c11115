"""Weights in other formats -> checkpoint, one file per format."""
