"""Adherence: how well a picture follows its condition."""
