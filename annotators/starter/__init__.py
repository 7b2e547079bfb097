"""Reading of the starter's own drawn world: parts, depth, joints and colours."""
