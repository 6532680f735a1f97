"""Snakemake's door to `mmcontrast.progress`; `logger: [mmcontrast]` in profiles/default chooses it."""

import logging
import os
import sys
from pathlib import Path

from snakemake_interface_logger_plugins.base import LogHandlerBase


class LogHandler(LogHandlerBase):
    """Hands Snakemake's records on. Snakemake imports every installed plugin before it reads the Snakefile:
    `mmcontrast` here must be the checkout's own, as in the Snakefile, and be imported only once the plugin is used.
    """

    def __post_init__(self) -> None:
        if Path("src/mmcontrast").is_dir():
            sys.path.insert(0, os.path.abspath("src"))
        from mmcontrast.progress import Terminal

        self.terminal = Terminal(self.common_settings)

    @property
    def writes_to_stream(self) -> bool:
        """Snakemake's own lines come where this is False."""
        return self.terminal.own

    writes_to_file = has_formatter = needs_rulegraph = property(lambda self: False)
    has_filter = property(lambda self: True)

    def emit(self, record: logging.LogRecord) -> None:
        """One of Snakemake's records."""
        self.terminal.emit(record)

    def close(self) -> None:
        """Called when all has been said."""
        self.terminal.close()
        super().close()
