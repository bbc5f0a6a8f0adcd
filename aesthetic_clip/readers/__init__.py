"""Files that come from outside, read so that nothing in them runs and none costs more than it is worth."""
