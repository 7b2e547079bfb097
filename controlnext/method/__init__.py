"""ControlNeXt itself: cross normalisation, injection, adapters and pipelines."""
