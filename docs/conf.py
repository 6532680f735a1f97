"""How Sphinx builds the site; `make docs` writes it to build/docs. Nothing is loaded from elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from mmcontrast import __version__

project = "mmcontrast"
author = "the mmcontrast maintainers"
copyright = author
release = version = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "formulas",
    "plain_docstrings",
    "reference",
    "shown_results",
    "earlier",
    "tuned",
]
root_doc = "index"
nitpicky = True
# types of packages whose documentation is not at hand offline, and names that a docstring only mentions
nitpick_ignore_regex = [("py:.*", r"(?!mmcontrast\.).*"), ("py:.*", r"mmcontrast\.(?!load|losses|methods\.base).*")]

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

default_role = "code"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"mmcontrast {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
html_math_renderer = "mathml"
