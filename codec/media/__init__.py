"""Files to and from validated media values."""
