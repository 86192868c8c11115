"""Bundle -> embeddings. Needs numpy only; a backend is imported at its first use."""
