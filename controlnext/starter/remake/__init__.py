"""Training of the starter of people on their scenes: one supervisor, every stage resumable."""
