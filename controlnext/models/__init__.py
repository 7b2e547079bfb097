"""Models: presets, where their files are, downloads, and what is ready."""
