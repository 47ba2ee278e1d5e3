"""Makes the pictures of the documentation from a finished demonstration: `python docs/make_images.py runs/demo`."""

import io
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from vwmm.config.loading import load_config
from vwmm.config.presets import cut_to_dims, with_preset
from vwmm.config.schema import Modality
from vwmm.data.cohort.read_cases import read_cohort
from vwmm.data.readers.read import read_image
from vwmm.data.transforms.preprocess import transform
from vwmm.engine.preprocessing.show_case import show_case

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


def draw_case(cohort: Path, target: Path) -> None:
    """What the network sees of the first complete case with a vulnerable plaque; in 256 colours, to be small."""
    row = pd.read_csv(cohort).dropna().query("label == 'vulnerable_plaque'").iloc[0]
    config = load_config(["configs/demo.yaml"], [f"data.csv={cohort}"])
    case = next(case for case in read_cohort(config.data, config.modalities).cases if case.name == row.case)
    sheet = Image.open(io.BytesIO(show_case(config, case))).convert("RGB")
    sheet.quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)


def draw_recipes(cohort: Path, target: Path) -> None:
    """A complete case's images, a row each: as stored, and as a part of the recipe after the other makes them."""
    row = pd.read_csv(cohort).dropna().iloc[0]
    steps: dict[str, list[tuple[str, dict[str, Any]]]] = {
        "vw_mri": [
            ("projection", {"slice": "maximum_projection"}),
            ("percentiles, z-score", {"preset": "flair", "spacing_mm": None}),
            ("preset vessel_wall_mri: N4, too", {"preset": "vessel_wall_mri", "spacing_mm": None}),
        ],
        "mri": [
            ("percentiles 10 to 90", {"clip_percentiles": [10.0, 90.0]}),
            ("preset t2", {"preset": "t2", "spacing_mm": None}),
            ("crop_pad", {"preset": "t2", "spacing_mm": None, "fit": "crop_pad"}),
        ],
        "ct": [
            ("min_max alone", {}),
            ("preset ct_angiography", {"preset": "ct_angiography"}),
            ("cut to the body", {"preset": "ct_angiography", "foreground": -300.0, "crop_foreground_mm": 0.0}),
        ],
    }
    figure = Figure(figsize=(8.4, 6.6), layout="constrained")
    for line, (name, shown) in zip(figure.subplots(3, 4), steps.items(), strict=True):
        image = read_image(cohort.parent / str(row[name]))
        plane = image.voxels[:, :, image.voxels.shape[2] // 2] if image.voxels.ndim == 3 else image.voxels
        drawn = [("as stored", plane)]
        for title, fields in shown:
            recipe = Modality.model_validate(cut_to_dims(with_preset({"dims": 2, "size": [128, 128], **fields})))
            drawn.append((title, transform(image, recipe)[0]))
        for axes, (title, pixels) in zip(line, drawn, strict=True):
            axes.imshow(pixels.T, cmap="gray", origin="lower")
            axes.set_title(title, fontsize=9)
            axes.set_xticks([])
            axes.set_yticks([])
        line[0].set_ylabel(name, fontsize=10)
    figure.savefig(target, dpi=110)


WAY = (
    (("CSV row", "data/cohort"), ("case", "data/cohort"), ("split by patient", "data/cohort"),
     ("image file", "data/readers"), ("preprocessing", "data/transforms"), ("cache", "data/cache")),
    (("batch and mask", "data/loading"), ("augmentation", "data/augmentation"), ("a branch per\nmodality", "models"),
     ("fusion, logits", "models"), ("loss, backward,\nreduce, update", "engine/training\nengine/strategies"),
     ("validation", "engine/training")),
    (("predictions,\nmetrics", "analysis/statistics"), ("checkpoint", "engine/checkpoints"),
     ("figures", "analysis/figures"), ("report", "analysis/pages"), ("trackers", "engine/tracking"),
     ("evaluation,\nprediction", "engine/runs")),
)  # fmt: skip


def draw_way(target: Path) -> None:
    """The way of a case: what becomes of a row of the CSV, and in which folder, in the order of the steps."""
    figure = Figure(figsize=(9.6, 3.9))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, 6)
    axes.set_ylim(-3, 0)
    for line, steps in enumerate(WAY):
        for place, (what, folder) in enumerate(steps):
            x, y = place + 0.5, -line - 0.42
            axes.text(x, y, what, ha="center", va="center", fontsize=10.5,
                      bbox={"boxstyle": "round,pad=0.5", "facecolor": "#F3F6F9", "edgecolor": "#0072B2"})  # fmt: skip
            axes.text(x, y - 0.27, folder, ha="center", va="top", fontsize=8.5, family="monospace", color="#57606A")
            if place:
                axes.annotate("", (x - 0.43, y), (x - 0.57, y), arrowprops={"arrowstyle": "->", "color": "#57606A"})
    figure.savefig(target, dpi=110)


def photograph(page: Path, target: Path, *, width: int, height: int) -> None:
    """The top of a page as a browser shows it."""
    with tempfile.TemporaryDirectory() as profile:
        options = [f"--user-data-dir={profile}", f"--window-size={width},{height}", f"--screenshot={target}"]
        subprocess.run(["chromium", *HEADLESS, *options, page.resolve().as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    run = Path(sys.argv[1])
    TARGET.mkdir(exist_ok=True)
    cohort = run.parent.parent / "data" / "demo" / "cohort.csv"
    draw_way(TARGET / "way_of_a_case.png")
    draw_cohort(cohort, TARGET / "cohort.png")
    draw_case(cohort, TARGET / "case_sheet.png")
    draw_recipes(cohort, TARGET / "recipes.png")
    photograph(run / "report.html", TARGET / "report.png", width=1100, height=1825)
