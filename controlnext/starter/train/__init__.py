"""The stages that train the starter models."""
