"""Commands too long for `controlnext.cli`, one a file; each has `add_parser` and is imported when it runs."""
