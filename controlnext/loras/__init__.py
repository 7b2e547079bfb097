"""LoRA files: headers, layers, the library, and conflicts with an adapter."""
