"""A model in memory and what runs on it."""
