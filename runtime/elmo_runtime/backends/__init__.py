"""What computes the graphs: one file a library, each imported at its first use."""
