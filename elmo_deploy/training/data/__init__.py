"""Text files to training batches."""
