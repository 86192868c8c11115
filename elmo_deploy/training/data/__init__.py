"""Text files -> training batches."""
