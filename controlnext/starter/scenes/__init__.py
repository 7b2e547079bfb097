"""The second world of the starter: people framed as in photographs, places, animals and things, drawn with exact conditions."""
