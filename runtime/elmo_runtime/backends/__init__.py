"""The backends that compute graphs; each imports its library at its first use."""
