"""Encoders and heads, built from a cell's configuration."""
