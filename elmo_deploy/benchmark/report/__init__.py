"""The results of a benchmark as tables, files and plots."""
