"""Readers of the starter's drawn world: parts, depth, joints and colours."""
