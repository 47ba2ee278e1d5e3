"""Makes the pictures of the documentation from a finished demonstration: `python docs/make_images.py runs/demo`."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vwmm.data.readers import read_image

TARGET = Path(__file__).parent / "images"
HEADLESS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]


def draw_cohort(cohort: Path, target: Path) -> None:
    """A complete case of each class, a row each: three slices of the vessel wall, the MRI and the CT."""
    rows = pd.read_csv(cohort).dropna().drop_duplicates("label").sort_values("label")
    figure = Figure(figsize=(9.6, 1.95 * len(rows)), layout="constrained")
    for line, row in zip(figure.subplots(len(rows), 5), rows.itertuples(), strict=True):
        volume = read_image(cohort.parent / str(row.vw_mri)).voxels
        planes = [volume[:, :, int(volume.shape[2] * part)] for part in (0.25, 0.5, 0.75)]
        planes += [np.squeeze(read_image(cohort.parent / str(path)).voxels) for path in (row.mri, row.ct)]
        titles = ["vessel-wall MRI, lower", "middle", "upper slice", "MRI", "CT"]
        for axes, plane, title in zip(line, planes, titles, strict=True):
            window = (-150, 550) if title == "CT" else (float(plane.min()), float(plane.max()))
            axes.imshow(plane.T, cmap="gray", vmin=window[0], vmax=window[1], origin="lower")
            axes.set_xticks([])
            axes.set_yticks([])
            if row.Index == rows.index[0]:
                axes.set_title(title, fontsize=9)
        line[0].set_ylabel(str(row.label).replace("_", " "), fontsize=10)
    figure.savefig(target, dpi=110)


def photograph(page: Path, target: Path, *, width: int, height: int) -> None:
    """The top of a page as a browser shows it."""
    with tempfile.TemporaryDirectory() as profile:
        options = [f"--user-data-dir={profile}", f"--window-size={width},{height}", f"--screenshot={target}"]
        subprocess.run(["chromium", *HEADLESS, *options, page.resolve().as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    run = Path(sys.argv[1])
    TARGET.mkdir(exist_ok=True)
    draw_cohort(run.parent.parent / "data" / "demo" / "cohort.csv", TARGET / "cohort.png")
    photograph(run / "report.html", TARGET / "report.png", width=1100, height=2000)
