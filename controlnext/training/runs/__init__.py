"""Folders of trainings: their state, curves and reports."""
