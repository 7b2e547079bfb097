"""Scenes of people framed as in photographs, with places, animals and things, drawn with exact conditions."""
