"""Atomic files and directories, locks between writers, and recovery after a crash."""
