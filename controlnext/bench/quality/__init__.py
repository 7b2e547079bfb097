"""Adherence and colours of what the bundled models draw."""
