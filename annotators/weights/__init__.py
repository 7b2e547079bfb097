"""Model files of the annotators: where they come from and how they are loaded."""
