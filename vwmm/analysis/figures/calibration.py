"""The calibration plot: observed shares over probabilities."""

from matplotlib.figure import Figure

from vwmm.analysis.figures.style import INK, PALETTE, QUIET, dress, new_figure, plain
from vwmm.analysis.statistics.calibration import MIN_CASES, Calibration
from vwmm.analysis.statistics.intervals import Interval


def calibration_plot(calibration: Calibration) -> Figure:
    """The observed share over the probability, with intervals; on the diagonal the two agree."""
    groups = calibration.groups
    figure = new_figure(4.9, 5.4, "Calibration: " + ("; ".join(
        f"of {group.num_cases} cases with a mean probability of {group.predicted:.2f}, a share of {group.observed:.2f}"
        for group in groups
    ) or "too few cases") + ".")  # fmt: skip
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (2, 3)))
    if groups:
        x, y = [group.predicted for group in groups], [group.observed for group in groups]
        spans = [group.limits.interval or Interval(group.observed, group.observed) for group in groups]
        axes.vlines(x, [span.low for span in spans], [span.high for span in spans], color=PALETTE[0], linewidth=1.4)
        axes.plot(x, y, color=PALETTE[0], linewidth=1.8, marker="o", markersize=5)
    else:
        axes.text(0.5, 0.5, f"fewer than {2 * MIN_CASES} cases", ha="center", va="center", color=INK, fontsize=11)
    of_what = plain(calibration.of_what, limit=26)
    title = f"Calibration (N = {calibration.num_cases} cases)"
    dress(axes, title=title, x=f"probability of {of_what}", y="observed share")
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_aspect("equal")
    return figure
