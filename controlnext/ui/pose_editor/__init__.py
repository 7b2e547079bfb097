"""The pose editor of the page: a component whose value is the JSON of a pose."""
