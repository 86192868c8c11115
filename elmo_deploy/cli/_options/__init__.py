"""Options that several commands share, and old names that are still accepted."""
