"""The method: cross normalisation, injection, adapters and pipelines."""
