"""The loaded base model: loading, running, previews and memory savings."""
