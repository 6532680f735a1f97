"""Hold a prepared split against its data sheet; apart from what writes that, so that no training hangs on wording."""

from __future__ import annotations

from pathlib import Path

from mmcontrast.data.files import sha256_of
from mmcontrast.data.json_text import read_json
from mmcontrast.errors import DataError

DATASHEET = "datasheet.json"


def check_prepared(path: Path) -> None:
    """Hold a prepared split against the checksum in the data sheet beside it; nothing to check where there is none.

    Raises:
        DataError: the split has changed since it was prepared, or the data sheet is damaged.
    """
    sheet_path = path.parent / DATASHEET
    again = f"run `mmcontrast data prepare {path.parent.name}`"
    try:
        expected = read_json(sheet_path).get("prepared", {}).get(path.stem)
        found = sha256_of(path)
    except FileNotFoundError:
        return
    except (ValueError, AttributeError, OSError) as e:
        raise DataError(f"{sheet_path}: not a data sheet ({e}); {again}") from None
    if expected is not None and found != expected:
        raise DataError(f"{path}: changed since it was prepared (sha256 {found}, was {expected}); {again}")
