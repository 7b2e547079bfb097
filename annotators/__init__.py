"""Annotators: pure functions from a picture to a condition picture."""
