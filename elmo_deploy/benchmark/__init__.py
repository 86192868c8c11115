"""Comparison of backends and precisions: loads -> systems in turn -> statistics -> report."""
