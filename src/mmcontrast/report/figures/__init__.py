"""Figures of the report, a file per kind or family; see `registry`. matplotlib is imported only to draw."""

# ruff: noqa: F401, I001
# in the order in which a page shows them
from mmcontrast.report.figures import sweep, information, scores, curves, projection, retrieval
from mmcontrast.report.figures import published, matrix, gains, ranks, tuple_infonce
