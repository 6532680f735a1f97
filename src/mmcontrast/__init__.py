"""Multimodal contrastive learning that reproduces."""

__version__ = "0.1.0"
