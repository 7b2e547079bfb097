"""LoRA files: what they are, what they change, and how they get along with an adapter."""
