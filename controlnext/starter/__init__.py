"""The starter: the drawn world that it knows, and the stages that train its weights."""
