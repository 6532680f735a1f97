"""A directive that writes Markdown, which is then read like the rest of its page."""

from __future__ import annotations

from collections.abc import Iterator

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


class Written(SphinxDirective):
    """Base of the directives here."""

    def markdown(self) -> Iterator[str]:
        """Lines, or several at a time.

        Raises:
            ExtensionError: what is asked for is not there.
        """
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes("\n".join(self.markdown()), allow_section_headings=True)
