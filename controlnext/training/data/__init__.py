"""Rows, pictures and clips that a training sees."""
