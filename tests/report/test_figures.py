"""Figures show the numbers of the results, nothing is cut off, and equal figures are equal files."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mmcontrast.config import Grid
from mmcontrast.errors import DataError
from mmcontrast.report.evidence import Evidence, Scope
from mmcontrast.report.figures.cells import over_seeds_by_epoch, project, switch_epoch
from mmcontrast.report.figures.registry import caption, draw, figures
from mmcontrast.report.figures.scores import differences_to_reference, scores
from mmcontrast.report.figures.style import DPI, KNOWN, PALETTE, house_style, method_colours, save, wrapped
from mmcontrast.report.tables.published import reproductions
from tests.report.made_up_study import REPO, Made

EXPERIMENT = "m3col_omics"


@cache
def drawn(made: Made, kind: str, narrow: bool, experiment: str = EXPERIMENT, dataset: str = "rosmap") -> Figure:
    spec = next(f for f in figures(made.grid, experiment) if f.kind == kind and f.dataset == dataset)
    with house_style():
        figure = draw(made.evidence, spec, narrow)
        figure.draw_without_rendering()
    return figure


def dots(axes, size: float) -> np.ndarray:
    """Positions of the markers of a size."""
    found = [c.get_offsets() for c in axes.collections if len(c.get_sizes()) and c.get_sizes()[0] == size]
    return np.concatenate(found) if found else np.empty((0, 2))


@pytest.mark.parametrize("narrow", [False, True])
def test_score_dots_stand_at_the_means(evaluated: Made, narrow: bool) -> None:
    of = Scope(Evidence.read(evaluated.grid, evaluated.layout), EXPERIMENT, "rosmap")
    figure = drawn(evaluated, "scores", narrow)
    cells = evaluated.grid.experiments[EXPERIMENT].cells
    for axes, metric in zip(figure.axes, evaluated.grid.datasets["rosmap"].metrics, strict=True):
        for size, protocol in ((26, "selected"), (24, "optimistic")):
            means = [100 * of.mean(ref, metric, protocol).mean for ref in cells]
            np.testing.assert_allclose(dots(axes, size), np.column_stack([means, range(len(cells))]))


def test_a_published_number_stands_in_the_row_of_its_cell(evaluated: Made) -> None:
    figure = drawn(evaluated, "scores", False)
    spec = evaluated.grid.experiments[EXPERIMENT]
    row = next(i for i, c in enumerate(spec.cells) if c.method == "m3col")
    printed = next(
        p for p in evaluated.grid.published(EXPERIMENT).rows if p.dataset == "rosmap" and p.method == "m3col"
    )
    for axes, metric in zip(figure.axes, evaluated.grid.datasets["rosmap"].metrics, strict=True):
        vertical = [line for line in axes.lines if len(set(line.get_xdata())) == 1 and len(line.get_ydata()) == 2]
        assert [line.get_xdata()[0] for line in vertical] == [printed.values[metric]]
        assert np.mean(vertical[0].get_ydata()) == row
    assert "published" in legend(figure)
    assert "published" not in legend(drawn(evaluated, "scores", False, dataset="tcga_brca"))


def test_published_numbers_stand_beside_ours_with_a_verdict(evaluated: Made) -> None:
    figure = drawn(evaluated, "published", False, "m3col_released_protocol")
    of = Scope(evaluated.evidence, "m3col_released_protocol", "rosmap")
    rows = [p for p in evaluated.grid.published("m3col_released_protocol").rows if p.method]
    per_metric = [
        [r for pair in reproductions(of.evidence, of.experiment) for r in pair if r and r.metric == m]
        for m in of.data.metrics
    ]
    for axes, found in zip(figure.axes, per_metric, strict=True):
        assert {r.row.row for r in found} == {p.row for p in rows}
        np.testing.assert_allclose(dots(axes, 22)[:, 0], [x for r in found for x in (r.published, r.ours.mean)])
        said = [t.get_text().replace("\n", " ") for t in axes.texts]
        assert said == [r.verdict for r in found]
        judged = {r.row.verified: r.verdict for r in found}
        assert judged["read"] == "cannot be judged"
        assert judged["run"] in ("agrees", "differs")


def legend(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.legends[0].get_texts()]


def test_legends_name_the_intervals_and_n(evaluated: Made) -> None:
    texts = " / ".join(legend(drawn(evaluated, "scores", False)))
    assert "mean of 5 seeds" in texts
    assert "95 % interval over seeds / 95 % interval over seeds and 30 test instances" in texts
    assert "optimistic: best epoch on the test split" in texts


def test_cells_without_validation_are_squares_at_the_last_epoch(evaluated: Made) -> None:
    texts = legend(drawn(evaluated, "scores", False, "m3col_released_protocol"))
    assert any("last epoch (no validation split)" in t for t in texts)
    assert not any("last epoch" in t for t in legend(drawn(evaluated, "scores", False)))


def test_difference_dots_are_paired_differences(evaluated: Made) -> None:
    results = Evidence.read(evaluated.grid, evaluated.layout).results
    figure = drawn(evaluated, "differences", False, "m3col_parts")
    cells = evaluated.grid.experiments["m3col_parts"].cells
    tested = results.filter(experiment="m3col_parts", dataset="rosmap", protocol="selected", split="test")
    for axes, metric in zip(figure.axes, evaluated.grid.datasets["rosmap"].metrics, strict=True):
        values = [
            tested.filter(method=c.method, variant=c.variant, metric=metric).sort("seed")["value"].to_numpy()
            for c in cells
        ]
        expected = [100 * (v - values[0]).mean() for v in values[1:]]
        np.testing.assert_allclose(dots(axes, 26)[:, 0], expected, atol=1e-9)
        assert axes.get_xlabel() == "difference to M3CoL (points)"


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize(
    ("kind", "experiment"),
    [
        ("scores", "m3col_omics"),
        ("scores", "m3col_released_protocol"),
        ("differences", "m3col_parts"),
        ("curves", "m3col_parts"),
        ("projection", "m3col_omics"),
        ("published", "m3col_omics"),
        ("published", "m3col_released_protocol"),
    ],
)
def test_no_text_is_cut_off(evaluated: Made, kind: str, experiment: str, narrow: bool) -> None:
    """Laid out once at the resolution of the png, and still whole at that of the svg and the pdf."""
    figure = drawn(evaluated, kind, narrow, experiment)
    width, height = figure.get_size_inches()
    figure.set_layout_engine("none")
    for dpi in (DPI, 72):
        figure.set_dpi(dpi)
        with house_style():  # as it is saved
            box = figure.get_tightbbox()
        assert min(box.x0, box.y0) > -0.01
        assert box.x1 < width + 0.01
        assert box.y1 < height + 0.01


def test_a_cell_with_one_seed_is_drawn_without_an_interval(evaluated: Made) -> None:
    evidence = Evidence.read(evaluated.grid, evaluated.layout)
    results, intervals = evidence.results, evidence.intervals
    grid = Grid(evaluated.grid.root, "made_up")
    grid.suite = grid.suite.model_copy(update={"seeds": [0]})
    evidence = Evidence(grid, evaluated.layout, results.filter(seed=0), intervals.clear())
    figure = scores(Scope(evidence, EXPERIMENT, "rosmap"), False)
    assert not any(line.get_linewidth() > 3 for axes in figure.axes for line in axes.lines)
    assert not any("interval over seeds" in t and "test instances" not in t for t in legend(figure))


def test_equal_figures_are_equal_files(evaluated: Made, tmp_path: Path) -> None:
    of = Scope(evaluated.evidence, "m3col_released_protocol", "rosmap")
    files = {name: [tmp_path / f"{name}.{suffix}" for suffix in ("svg", "pdf", "png")] for name in ("a", "b")}
    for paths in files.values():
        with house_style():
            save(scores(of, False), paths)
    for first, second, magic in zip(files["a"], files["b"], (b"<?xml", b"%PDF", b"\x89PNG"), strict=True):
        assert first.read_bytes() == second.read_bytes()
        assert first.read_bytes().startswith(magic)


def test_a_method_keeps_its_colour_whatever_else_there_is() -> None:
    grid = Grid(REPO, "paper")
    few, many = method_colours(["m3col", "concat"]), method_colours([*grid.methods, "zeta", "alpha"])
    assert all(many[m] == colour for m, colour in few.items())
    assert many["m3col"] == KNOWN["m3col"]
    assert set(KNOWN.values()) <= set(PALETTE)


def test_methods_have_colours_of_their_own() -> None:
    colours = method_colours([*Grid(REPO, "paper").methods, "zeta", "alpha"])
    assert len(set(colours.values())) == len(colours)


def test_a_cells_colour_is_its_methods_in_every_figure(evaluated: Made) -> None:
    orange = KNOWN["m3col"].lower()
    in_bars, curves = drawn(evaluated, "scores", False), drawn(evaluated, "curves", False)
    in_scores = {to_hex(c.get_facecolor()[0]) for c in in_bars.axes[0].collections if c.get_offsets()[0][1] == 8}
    assert orange in in_scores
    titled = next(a for a in curves.axes if a.get_title(loc="left") == "M3CoL")
    assert orange in {to_hex(line.get_color()) for line in titled.lines}


@pytest.mark.parametrize(
    ("variant", "expected"), [("base", 165), ("m3co_only", None), ("multisclip_only", None), ("no_unimodal", 165)]
)
def test_the_switch_epoch_is_the_schedules(variant: str, expected: int | None) -> None:
    assert switch_epoch(Grid(REPO, "paper").cell("rosmap", "m3col", variant)) == expected


def test_baselines_have_no_switch() -> None:
    assert switch_epoch(Grid(REPO, "paper").cell("rosmap", "concat")) is None


def test_curves_average_over_seeds() -> None:
    frame = pl.DataFrame({"seed": [0, 1, 0, 1], "epoch": [3, 3, 1, 1], "value": [0.2, 0.6, 0.1, 0.3]})
    assert over_seeds_by_epoch(frame).rows() == [(1, pytest.approx(0.2), 0.1, 0.3), (3, pytest.approx(0.4), 0.2, 0.6)]


def test_curves_mark_the_switch_and_show_the_mean(evaluated: Made) -> None:
    figure = drawn(evaluated, "curves", False)
    axes = next(a for a in figure.axes if a.get_title(loc="left") == "M3CoL")
    vertical = [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1]
    assert vertical == [165]
    curve = pl.read_parquet(evaluated.path(evaluated.layout.curves("rosmap/m3col/base")))
    mean = curve.filter(split="val", metric="acc").group_by("epoch").agg(pl.col("value").mean()).sort("epoch")
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 100 * mean["value"].to_numpy())


def test_projection_is_the_plane_of_most_variance() -> None:
    x = np.random.default_rng(0).normal(size=(40, 6)) * [5, 3, 1, 1, 1, 1]
    points, explained = project(x)
    centred = x - x.mean(0)
    _, s, vt = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(points), np.abs(centred @ vt[:2].T))
    np.testing.assert_allclose(explained, (s**2 / (s**2).sum())[:2])
    np.testing.assert_array_equal(project(x)[0], points)


def test_collapsed_embeddings_are_drawn_as_one_point() -> None:
    points, explained = project(np.ones((5, 3)))
    assert not points.any()
    assert not explained.any()


def test_embeddings_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DataError, match="train the cell again"):
        project(np.array([[1.0, np.nan], [0.0, 1.0]]))


def test_projection_names_variance_seed_and_n(evaluated: Made) -> None:
    figure = drawn(evaluated, "projection", False)
    assert [a.get_title(loc="left") for a in figure.axes] == ["Concatenation", "M3CoL"]
    spec = next(f for f in figures(evaluated.grid, EXPERIMENT) if f.kind == "projection" and f.dataset == "rosmap")
    assert "30 test instances, seed 0, by class" in caption(evaluated.evidence, spec)
    assert all("% of variance" in a.get_xlabel() + a.get_ylabel() for a in figure.axes)
    shown = sum(len(c.get_offsets()) for c in figure.axes[0].collections)
    assert shown == 30


def test_long_labels_break_into_lines() -> None:
    assert max(map(len, wrapped("Concatenation + unimodal heads + InfoNCE").splitlines())) <= 22


def test_difference_chart_of_cells_without_scores_is_empty_rows(evaluated: Made) -> None:
    of = Scope(evaluated.evidence, "m3col_released_protocol", "rosmap")
    figure = differences_to_reference(of, False)
    assert len(dots(figure.axes[0], 26)) == 2, "three cells have a selected score, one of them is the reference"
