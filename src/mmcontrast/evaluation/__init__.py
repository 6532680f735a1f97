"""Scores, protocols and their uncertainty, from stored predictions alone. Imports no torch."""
