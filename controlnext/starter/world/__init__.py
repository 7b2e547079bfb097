"""The drawn world that the starter models know."""
