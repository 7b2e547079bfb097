"""Which models there are, where their files are, and how files get here."""
