"""Figures of the report, a file per kind or family."""
