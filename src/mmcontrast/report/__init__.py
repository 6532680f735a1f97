"""Views of the results table: tables, figures and one page. Imports no torch."""
