"""Figures: what they show, and in which fonts and words."""

import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.analysis.pictures import text_of
from vwmm.analysis.figures import curves, rates, report_figures
from vwmm.analysis.figures.curves import thin
from vwmm.analysis.figures.report_figures import Example, to_svg
from vwmm.analysis.figures.style import PALETTE, line_look, spread
from vwmm.analysis.run_record import TRAIN_COLUMNS, History, unimodal_columns, validation_columns
from vwmm.analysis.statistics.intervals import Interval
from vwmm.analysis.statistics.recorded_predictions import RecordedPredictions


def make_history(epochs: int = 3, steps_per_epoch: int = 4) -> History:
    """Losses that fall, and an AUROC that is never defined."""
    steps = np.arange(1.0, epochs * steps_per_epoch + 1)
    train = pd.DataFrame({"epoch": np.ceil(steps / steps_per_epoch), "step": steps, "loss": 1 / steps})
    train = train[list(TRAIN_COLUMNS)].assign(epochs_done=steps / steps_per_epoch)
    validation = pd.DataFrame({"epoch": np.arange(1.0, epochs + 1)}).reindex(columns=list(validation_columns()))
    validation = validation.assign(loss=0.5, accuracy=0.7, cases=60.0, train_loss=0.4)
    return History(train, validation, best_epoch=2)


def make_table() -> pd.DataFrame:
    """Six cases of two classes."""
    return pd.DataFrame({"label": list("aabbba"), "split": ["train", "val", "train", "train", "val", "train"]})


def predictions_of(labels: np.ndarray, probabilities: np.ndarray) -> RecordedPredictions:
    """One case a patient."""
    return RecordedPredictions(labels, probabilities, np.arange(len(labels)), pd.DataFrame(index=range(len(labels))))


def all_figures(classes: list[str]) -> list[Figure]:
    """One of each kind."""
    labels = np.arange(20) % len(classes)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(len(classes)), size=20)
    table = pd.DataFrame({"label": [classes[k] for k in labels], "split": ["train", "val"] * 10})
    presence = pd.DataFrame({"ct": labels == 0, "mri": labels >= 0})
    example = Example("a try", {"ct": np.zeros((4, 6)), "mri": None}, classes[0], classes[1], 0.8)
    return [
        curves.learning_curves(make_history()),
        report_figures.confusion(np.eye(len(classes), dtype=np.int64), classes),
        rates.roc(predictions_of(labels, probabilities), classes),
        rates.precision_recall(predictions_of(labels, probabilities), classes),
        report_figures.class_counts(table, classes),
        report_figures.modality_presence(presence),
        report_figures.examples([example]),
    ]


def test_each_modality_has_a_curve_of_its_own_beside_all_together() -> None:
    history = make_history()
    tables = {
        name: history.validation[list(unimodal_columns())].assign(cases=50.0 + k)
        for k, name in enumerate(("ct", "mri"))
    }
    figure = curves.modality_curves(replace(history, unimodal=tables))
    drawn = text_of(to_svg(figure))
    for words in ("Accuracy of each modality by itself", "all together", "ct (N = 50)", "mri (N = 51)"):
        assert words in drawn, drawn
    assert len(figure.axes[0].get_lines()) == 3 + 1, "three scores and the best epoch"


def test_svg_is_repeatable_and_names_fonts_that_every_reader_has() -> None:
    first = [to_svg(figure) for figure in all_figures(["a", "b", "c"])]
    second = [to_svg(figure) for figure in all_figures(["a", "b", "c"])]

    assert first == second
    for svg in first:
        assert "system-ui" in svg
        assert "DejaVu" not in svg


def test_every_figure_has_a_sentence_that_says_what_it_shows() -> None:
    for figure in all_figures(["a", "b", "c"]):
        description = str(figure.get_label())
        assert re.fullmatch(r"[A-Z].{20,}[.…]", description), description


def test_dangerous_names_are_drawn_as_they_are_without_a_warning() -> None:
    classes = ["<script>x</script>", "$\\frac{a}$ & $b$", "血管\x00\n\u202e病"]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = [to_svg(figure) for figure in all_figures(classes)]

    assert not any("<script" in svg for svg in drawn)
    counts = text_of(drawn[4])
    assert "<script>x</script>" in counts
    assert "$\\frac{a}$ & $b$" in counts
    assert "血管 病" in counts


def test_figures_leave_matplotlib_as_it_was() -> None:
    before = dict(mpl.rcParams)

    for figure in all_figures(["a", "b"]):
        to_svg(figure)

    assert dict(mpl.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_learning_curves_mark_the_best_epoch_and_omit_undefined_values() -> None:
    shown = text_of(to_svg(curves.learning_curves(make_history())))

    assert "best: epoch 2" in shown
    assert "validation N = 60 cases" in shown
    assert "accuracy" in shown
    assert "AUROC" not in shown


def test_learning_curves_of_one_epoch_show_its_point() -> None:
    figure = curves.learning_curves(make_history(epochs=1))

    assert {line.get_marker() for line in figure.axes[1].lines if np.size(line.get_xdata()) == 1} == {"o"}


def test_twenty_thousand_steps_are_thinned_to_means_that_keep_the_area() -> None:
    y = np.random.default_rng(0).normal(size=20_000)

    thin_x, thin_y = thin(np.arange(20_000.0), y)
    axes = curves.learning_curves(make_history(epochs=40, steps_per_epoch=500)).axes[0]

    assert len(thin_x) == 500
    assert thin_y == pytest.approx(y.reshape(500, 40).mean(axis=1))
    assert thin_x[0] == pytest.approx(19.5)
    assert max(np.size(line.get_xdata()) for line in axes.lines) == 500
    assert len(thin(np.arange(501.0), np.arange(501.0))[0]) == 500


def test_confusion_shows_counts_and_shares_of_the_true_class() -> None:
    shown = text_of(to_svg(report_figures.confusion(np.array([[3, 1], [0, 0]]), ["left", "right"])))

    assert "N = 4 cases" in shown
    assert "75 %" in shown
    assert "25 %" in shown
    assert "\u2013" in shown  # a class without cases has no share


def test_roc_of_two_classes_has_one_curve_with_its_interval() -> None:
    labels = np.array([0, 0, 1, 1])
    scores = np.array([0.1, 0.6, 0.4, 0.9])
    predictions = predictions_of(labels, np.stack([1 - scores, scores], axis=1))

    shown = text_of(to_svg(rates.roc(predictions, ["no", "yes"], intervals=[None, Interval(0.5, 1.0)])))

    assert "yes" in shown
    assert "N = 2 of 4" in shown
    assert "AUROC 0.750 (0.500 to 1.000)" in shown
    assert "| no |" not in shown


def test_each_of_three_classes_has_a_panel_with_its_band() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 3
    predictions = predictions_of(labels, generator.dirichlet(np.ones(3), size=60))

    figure = rates.roc(predictions, ["a", "b", "c"])

    assert [len(axes.collections) for axes in figure.axes] == [1, 1, 1]
    assert [axes.get_title(loc="left").splitlines()[0] for axes in figure.axes] == ["a", "b", "c"]


@pytest.mark.parametrize("num_classes", [2, 4, 9, 20])
def test_no_heading_of_a_panel_reaches_the_next_one(num_classes: int) -> None:
    labels = np.arange(10 * num_classes) % num_classes
    predictions = predictions_of(labels, np.random.default_rng(0).dirichlet(np.ones(num_classes), size=len(labels)))
    names = [f"class {number} of plaques with a name" for number in range(num_classes)]
    figure = rates.roc(predictions, names, intervals=[Interval(0.111, 0.999)] * num_classes)
    FigureCanvasAgg(figure).draw()

    for axes in figure.axes:
        width = axes.get_position().width * figure.bbox.width
        (heading,) = [text for text in axes.get_children() if isinstance(text, Text) and "AUROC" in text.get_text()]
        assert heading.get_window_extent().width < 1.2 * width


def test_precision_recall_curve_names_its_area_and_the_chance_level() -> None:
    labels = (np.arange(40) % 4 == 0).astype(int)
    scores = 0.2 + 0.5 * labels + np.arange(40) / 200
    scores[0] = 0.1
    predictions = predictions_of(labels, np.stack([1 - scores, scores], axis=1))

    shown = text_of(to_svg(rates.precision_recall(predictions, ["no", "yes"])))

    assert "N = 10 of 40" in shown
    assert re.search(r"area 0\.9\d\d \(0\.\d{3} to 0\.\d{3}\)", shown)
    assert "guessing: 25 %" in shown


@pytest.mark.parametrize("draw", [rates.roc, rates.precision_recall])
def test_curves_of_a_single_class_are_labelled_undefined(draw: Callable[..., Figure]) -> None:
    predictions = predictions_of(np.zeros(3, dtype=np.int64), np.full((3, 2), 0.5))

    assert "not defined" in text_of(to_svg(draw(predictions, ["no", "yes"])))


def test_lines_are_told_apart_without_their_colour() -> None:
    looks = [line_look(number) for number in range(12)]

    assert len({(str(look["linestyle"]), look["marker"]) for look in looks}) == 12


def test_each_line_has_its_name_beside_its_end_and_no_two_names_meet() -> None:
    history = make_history()
    tables = {name: history.validation[list(unimodal_columns())].assign(cases=50.0) for name in ("ct", "mri", "vw")}

    axes = curves.modality_curves(replace(history, unimodal=tables)).axes[0]

    names = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert {"all together", "ct (N = 50)", "mri (N = 50)", "vw (N = 50)"} < set(names)
    heights = sorted(height for name, height in names.items() if "best" not in name)
    assert min(np.diff(heights)) > 0.05
    assert axes.get_legend() is None


@pytest.mark.parametrize("heights", [[0.5, 0.5, 0.5], [1.0, 0.99, 0.0], [0.0, 0.01, 0.02, 1.2], [0.3]])
def test_labels_are_spread_and_stay_inside(heights: list[float]) -> None:
    found = spread(heights, 0.1)

    assert all(-1e-9 <= height <= 1 + 1e-9 for height in found)
    assert len(found) == 1 or min(np.diff(sorted(found))) > 0.1 - 1e-9
    assert np.argsort(found, kind="stable").tolist()[-1] in np.flatnonzero(np.array(heights) == max(heights))


def test_class_counts_by_split() -> None:
    figure = report_figures.class_counts(make_table(), ["a", "b", "c"])

    widths = [[bar.get_width() for bar in bars] for bars in figure.axes[0].containers]
    assert widths == [[2, 2, 0], [1, 1, 0]]
    shown = text_of(to_svg(figure))
    assert "2 training" in shown
    assert "cases: 4 training, 2 validation" in shown


def test_combinations_of_modalities_are_counted_the_most_frequent_first() -> None:
    presence = pd.DataFrame({"ct": [True, True, False, True], "mri": [True, False, True, True]})

    counts = report_figures.combinations(presence)

    assert counts == [((True, True), 2), ((True, False), 1), ((False, True), 1)]
    assert [report_figures.combination_name(["ct", "mri"], flags) for flags, _ in counts] == ["all 2", "ct", "mri"]
    assert report_figures.combination_name(["a", "b", "c", "d"], [True, True, False, True]) == "all but c"
    assert report_figures.combination_name(["ct"], [False]) == "none"


def test_many_combinations_are_summed_up() -> None:
    bits = (np.arange(64)[:, None] >> np.arange(6)) & 1

    shown = text_of(to_svg(report_figures.modality_presence(pd.DataFrame(bits == 1, columns=list("abcdef")))))

    assert "52 other" in shown


def test_example_shows_its_images_and_names_missing_ones() -> None:
    image = np.linspace(-1, 2, 600 * 300).reshape(600, 300)
    image[0, 0] = np.nan
    figure = report_figures.examples([Example("Example 4", {"ct": image, "mri": None}, "sick", "well", 0.912)])

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
