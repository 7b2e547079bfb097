"""Recipes of pictures and videos, their limits, and how files carry them."""
