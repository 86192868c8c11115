"""The directory of a training run: its saved states and its metrics."""
