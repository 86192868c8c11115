"""Shared by the tests of the guarantees: killable processes, memory readings, the table."""
