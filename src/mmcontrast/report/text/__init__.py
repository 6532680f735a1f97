"""Names, definitions and sentences of the report."""
