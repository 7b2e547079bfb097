"""Parameters, operations, seconds and memory."""
