"""Errors for people: what was wrong, where, what is accepted, what to do. The command line prints them bare."""

import difflib
import errno
from collections.abc import Iterable


class MMContrastError(Exception):
    """Base of all errors a user can mend; its text is complete without a traceback."""


class ConfigError(MMContrastError):
    """A file in params/ says something that is not accepted."""


class DataError(MMContrastError):
    """A data file is not what it should be."""


class FetchError(MMContrastError):
    """A source could not be had, or what came has another checksum."""


class ContrastError(MMContrastError, ValueError):
    """A contrastive loss was given tensors or a temperature it is not defined for."""


class TrainingError(MMContrastError):
    """Training cannot go on, e.g. a loss that is not finite."""


class DivergedError(TrainingError):
    """A loss or a gradient is not finite, which a lower learning rate may mend."""


class StoppedError(MMContrastError):
    """Training was asked to stop, and its state is saved."""


def not_installed(needed_by: str, library: str) -> ConfigError:
    """To be raised where an optional library is missing."""
    return ConfigError(f"{needed_by}: needs the library {library}, which is not installed; run `pip install {library}`")


DISK_ERRORS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "your disk quota is used up; free some space",
    errno.EFBIG: "the file would be larger than is allowed here (ulimit -f); raise the limit",
    errno.EROFS: "the file system is read-only; choose a folder that can be written to",
    errno.EACCES: "no permission; choose a folder that can be written to",
    errno.EIO: "the disk reports an error; check it",
}


def disk_problem(error: OSError) -> str | None:
    """What to do about a file that could not be written, or None where the error is of another kind."""
    if error.errno not in DISK_ERRORS:
        return None
    where = f"{error.filename}: " if error.filename else ""
    return (
        f"{where}{error.strerror}: {DISK_ERRORS[error.errno]}, then run the same command again. What was finished "
        "before is kept, and training goes on from its last checkpoint."
    )


def first_line(error: BaseException) -> str:
    """The first line of a library's error, which may be a page long, or its name where it says nothing."""
    return (str(error) or type(error).__name__).strip().splitlines()[0]


def nearest(word: str, known: Iterable[str]) -> str:
    """'; did you mean X?' for the closest known spelling, or the list of what is known."""
    options = sorted(known)
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return "known: " + ", ".join(options) if options else "nothing is known here yet"
