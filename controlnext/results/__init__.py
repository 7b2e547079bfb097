"""Saved results: pictures and videos on the disk."""
