"""Foreign weights -> checkpoint, one file a format."""
