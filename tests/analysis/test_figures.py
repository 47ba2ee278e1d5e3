"""Figures: what they show, and that their SVG can stand beside others in a page."""

import re
import sys
import warnings
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from vwmm.analysis import figures
from vwmm.analysis.figures import Example, thin, to_svg
from vwmm.analysis.intervals import Interval
from vwmm.analysis.records import ALONE_COLUMNS, TRAIN_COLUMNS, VALIDATION_COLUMNS, History
from vwmm.analysis.svg import PALETTE


def make_history(epochs: int = 3, steps_per_epoch: int = 4) -> History:
    """Losses that fall, and an AUROC that is never defined."""
    steps = np.arange(1.0, epochs * steps_per_epoch + 1)
    train = pd.DataFrame({"epoch": np.ceil(steps / steps_per_epoch), "step": steps, "loss": 1 / steps})
    train = train[list(TRAIN_COLUMNS)].assign(epochs_done=steps / steps_per_epoch)
    validation = pd.DataFrame({"epoch": np.arange(1.0, epochs + 1)}).reindex(columns=list(VALIDATION_COLUMNS))
    validation = validation.assign(loss=0.5, accuracy=0.7, cases=60.0, train_loss=0.4)
    return History(train, validation, best_epoch=2)


def text_of(svg: str) -> str:
    """All text that the figure draws."""
    return " | ".join(element.text or "" for element in ElementTree.fromstring(svg).iter("text"))


def make_table() -> pd.DataFrame:
    """Six cases of two classes."""
    return pd.DataFrame({"label": list("aabbba"), "split": ["train", "val", "train", "train", "val", "train"]})


def all_figures(classes: list[str]) -> list[Figure]:
    """One of each kind."""
    labels = np.arange(20) % len(classes)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(len(classes)), size=20)
    table = pd.DataFrame({"label": [classes[k] for k in labels], "split": ["train", "val"] * 10})
    presence = pd.DataFrame({"ct": labels == 0, "mri": labels >= 0})
    example = Example("a try", {"ct": np.zeros((4, 6)), "mri": None}, classes[0], classes[1], 0.8)
    return [
        figures.learning_curves(make_history()),
        figures.confusion(np.eye(len(classes), dtype=np.int64), classes),
        figures.roc(labels, probabilities, classes),
        figures.class_counts(table, classes),
        figures.modality_presence(presence),
        figures.examples([example]),
    ]


def test_each_modality_has_a_curve_of_its_own_beside_all_together() -> None:
    history = make_history()
    tables = {
        name: history.validation[list(ALONE_COLUMNS)].assign(cases=50.0 + k) for k, name in enumerate(("ct", "mri"))
    }
    figure = figures.modality_curves(replace(history, alone=tables))
    drawn = text_of(to_svg(figure))
    for words in ("Accuracy of each modality by itself", "all together", "ct (N = 50)", "mri (N = 51)"):
        assert words in drawn, drawn
    assert len(figure.axes[0].get_lines()) == 3


def test_svg_is_repeatable_and_shares_no_id_with_another_figure() -> None:
    first = [to_svg(figure) for figure in all_figures(["a", "b", "c"])]
    second = [to_svg(figure) for figure in all_figures(["a", "b", "c"])]

    ids = [identifier for svg in first for identifier in re.findall(r'\bid="([^"]+)"', svg)]
    assert first == second
    assert len(ids) == len(set(ids))
    for svg in first:
        used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg))
        assert {a or b for a, b in used} <= set(ids)
        assert "://" not in svg
        assert 'role="img"' in svg
        assert re.search(r'aria-label="[^"]{10,}"', svg)
        assert "system-ui" in svg
        assert "DejaVu" not in svg


def test_dangerous_names_are_drawn_as_they_are_without_a_warning() -> None:
    classes = ["<script>x</script>", "$\\frac{a}$ & $b$", "血管\x00\n\u202e病"]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = [to_svg(figure) for figure in all_figures(classes)]

    assert not any("<script" in svg for svg in drawn)
    counts = text_of(drawn[3])
    assert "<script>x</script>" in counts
    assert "$\\frac{a}$ & $b$" in counts
    assert "血管 病" in counts


def test_figures_leave_matplotlib_as_it_was() -> None:
    before = dict(mpl.rcParams)

    for figure in all_figures(["a", "b"]):
        to_svg(figure)

    assert dict(mpl.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_learning_curves_mark_the_best_epoch_and_leave_out_what_is_not_defined() -> None:
    shown = text_of(to_svg(figures.learning_curves(make_history())))

    assert "best: epoch 2" in shown
    assert "validation N = 60 cases" in shown
    assert "accuracy" in shown
    assert "AUROC" not in shown


def test_learning_curves_of_one_epoch_show_its_point() -> None:
    figure = figures.learning_curves(make_history(epochs=1))

    assert {line.get_marker() for line in figure.axes[1].lines if np.size(line.get_xdata()) == 1} == {"o"}


def test_twenty_thousand_steps_are_thinned_to_means_that_keep_the_area() -> None:
    y = np.random.default_rng(0).normal(size=20_000)

    thin_x, thin_y = thin(np.arange(20_000.0), y)
    axes = figures.learning_curves(make_history(epochs=40, steps_per_epoch=500)).axes[0]

    assert len(thin_x) == 500
    assert thin_y == pytest.approx(y.reshape(500, 40).mean(axis=1))
    assert thin_x[0] == pytest.approx(19.5)
    assert max(np.size(line.get_xdata()) for line in axes.lines) == 500
    assert len(thin(np.arange(501.0), np.arange(501.0))[0]) == 500


def test_confusion_shows_counts_and_shares_of_the_true_class() -> None:
    shown = text_of(to_svg(figures.confusion(np.array([[3, 1], [0, 0]]), ["left", "right"])))

    assert "N = 4 cases" in shown
    assert "75 %" in shown
    assert "25 %" in shown
    assert "\u2013" in shown  # a class without cases has no share


def test_roc_of_two_classes_has_one_curve_with_its_interval() -> None:
    labels = np.array([0, 0, 1, 1])
    scores = np.array([0.1, 0.6, 0.4, 0.9])

    figure = figures.roc(
        labels, np.stack([1 - scores, scores], axis=1), ["no", "yes"], intervals=[None, Interval(0.5, 1.0)]
    )

    assert "yes, N = 2: 0.750 (0.500 to 1.000)" in text_of(to_svg(figure))
    assert "no, N" not in text_of(to_svg(figure))


def test_roc_of_one_class_only_says_that_it_is_not_defined() -> None:
    svg = to_svg(figures.roc(np.zeros(3, dtype=np.int64), np.full((3, 2), 0.5), ["no", "yes"]))

    assert "not defined" in text_of(svg)


def test_class_counts_by_split() -> None:
    figure = figures.class_counts(make_table(), ["a", "b", "c"])

    widths = [[bar.get_width() for bar in bars] for bars in figure.axes[0].containers]
    assert widths == [[2, 2, 0], [1, 1, 0]]
    assert "training (N = 4)" in text_of(to_svg(figure))


def test_combinations_of_modalities_are_counted_the_most_frequent_first() -> None:
    presence = pd.DataFrame({"ct": [True, True, False, True], "mri": [True, False, True, True]})

    counts = figures.combinations(presence)

    assert counts == [((True, True), 2), ((True, False), 1), ((False, True), 1)]
    assert [figures.combination_name(["ct", "mri"], flags) for flags, _ in counts] == ["all 2", "ct", "mri"]
    assert figures.combination_name(["a", "b", "c", "d"], [True, True, False, True]) == "all but c"
    assert figures.combination_name(["ct"], [False]) == "none"


def test_many_combinations_are_summed_up() -> None:
    bits = (np.arange(64)[:, None] >> np.arange(6)) & 1

    shown = text_of(to_svg(figures.modality_presence(pd.DataFrame(bits == 1, columns=list("abcdef")))))

    assert "52 other" in shown


def test_an_example_shows_its_images_and_says_what_is_missing() -> None:
    image = np.linspace(-1, 2, 600 * 300).reshape(600, 300)
    image[0, 0] = np.nan
    figure = figures.examples([Example("Example 4", {"ct": image, "mri": None}, "sick", "well", 0.912)])

    svg = to_svg(figure)

    shown = text_of(svg)
    assert "Example 4" in shown
    assert "true class sick" in shown
    assert "wrong: predicted well (91 %)" in shown
    assert "missing" in shown
    assert svg.count("data:image/png;base64,") == 1
    drawn = np.asarray(figure.subfigs[0].axes[0].images[0].get_array())
    assert max(drawn.shape) <= 256
    assert (drawn.min(), drawn.max()) == (0, 1)


def test_the_palette_stands_out_from_white() -> None:
    for colour in PALETTE:
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))  # WCAG 2.2
        assert 1.05 / (luminance + 0.05) >= 3
