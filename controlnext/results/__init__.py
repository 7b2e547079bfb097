"""What was made, on the disk."""
