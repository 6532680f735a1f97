"""Tables of the report: what their blocks hold, and how they are written."""
