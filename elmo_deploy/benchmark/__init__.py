"""Backends and precisions side by side: loads -> systems in turn -> statistics -> report."""
