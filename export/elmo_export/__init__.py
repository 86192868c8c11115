"""Checkpoint -> graphs -> engines -> bundle."""
