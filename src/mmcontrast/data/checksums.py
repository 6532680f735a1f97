"""Check a prepared split against its datasheet; apart from what writes it, so that training depends on no wording."""

from __future__ import annotations

from pathlib import Path

from mmcontrast.data.files import sha256_of
from mmcontrast.data.json_text import read_json
from mmcontrast.errors import DataError

DATASHEET = "datasheet.json"


def check_prepared(path: Path) -> None:
    """Check a prepared split against the checksum in the datasheet beside it, if there is one.

    Raises:
        DataError: the split has changed since it was prepared, or the datasheet is damaged.
    """
    sheet_path = path.parent / DATASHEET
    again = f"run `mmcontrast data prepare {path.parent.name}`"
    try:
        expected = read_json(sheet_path).get("prepared", {}).get(path.stem)
        found = sha256_of(path)
    except FileNotFoundError:
        return
    except (ValueError, AttributeError, OSError) as e:
        raise DataError(f"{sheet_path}: not a datasheet ({e}); {again}") from None
    if expected is not None and found != expected:
        raise DataError(f"{path}: changed since it was prepared (sha256 {found}, was {expected}); {again}")
