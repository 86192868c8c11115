"""The bundle directory: its manifest, its engines, and the checks before anything is parsed."""
