"""Figures of the report, a file per kind or family; see `registry`. matplotlib is imported only to draw."""

# ruff: noqa: F401, I001
# in the order in which a page shows them
from mmcontrast.report.figures import lines, scores, cells, retrieval, published, matrix, tuple_infonce
