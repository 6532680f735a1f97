"""The contact sheet shows every picture and every text of its instances."""

import numpy as np
import pytest

from mmcontrast.report.figures.retrieval import contact_sheet


def test_every_picture_and_text_is_on_the_sheet_and_a_missing_one_leaves_its_place(tmp_path):
    picture = np.zeros((3, 8, 8), np.uint8)
    sheet = contact_sheet([[picture] * 3, [picture]], [["dog", "pet, animal"], ["cost: $5 & $6"]], ["a", "b"], "two")
    assert len(sheet.axes) == 4
    shown = [t.get_text() for t in sheet.texts if t.get_text()]
    assert shown == [
        "dog",
        "a",
        "pet, animal",
        "cost: $5 & $6",
        "b",
        "two",
    ]
    first_column = {round(a.get_position().x0, 6) for a in (sheet.axes[0], sheet.axes[3])}
    assert len(first_column) == 1
    sheet.savefig(tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_lists_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="1 lists of images, 2 of texts and 1 groups"):
        contact_sheet([[]], [["a"], ["b"]], ["g"], "")
    with pytest.raises(ValueError, match="0 lists"):
        contact_sheet([], [], [], "")
