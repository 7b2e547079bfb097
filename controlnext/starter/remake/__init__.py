"""Training of the starter's next weights on the scenes of people: one supervisor, every stage resumable."""
