"""How well a picture follows its control."""
