"""What every command shares: the console, progress bars and error messages."""
