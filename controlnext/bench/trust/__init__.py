"""Benches of trust: malformed requests, load over time, and broken machines."""
