"""What people add - backbone, metric, modality preset, image format, tracker - is an entry of one table, and works."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import nn

from vwmm.analysis.figures.curves import learning_curves
from vwmm.analysis.pages import cross_validation_report, evaluation_report
from vwmm.analysis.pages.result_tables import result_rows
from vwmm.analysis.run_record import read_history
from vwmm.analysis.statistics.intervals import Limits, share_limits
from vwmm.analysis.statistics.metrics import METRICS, Metric
from vwmm.analysis.statistics.predictions import Predictions
from vwmm.analysis.statistics.recorded_predictions import read_predictions, read_written_table
from vwmm.config.loading import load_config
from vwmm.config.presets import PRESETS, PresetName, cut_to_dims, with_preset
from vwmm.config.run_folder import RunFolder
from vwmm.config.schema import MetricName, Modality, Model, Tracking
from vwmm.data.readers.image import Image, ImageError
from vwmm.data.readers.read import FORMATS, FormatReader, check_header, read_image
from vwmm.data.transforms.preprocess import transform
from vwmm.engine.tracking.base import Results, Row, RunInfo
from vwmm.engine.tracking.trackers import TRACKERS, open_trackers, values_of
from vwmm.engine.training.early_stopping import is_better
from vwmm.models.branch import BACKBONES
from vwmm.models.fusion import build_model


def test_names_of_the_schema_are_those_of_the_tables() -> None:
    names = get_args(Tracking.model_fields["trackers"].annotation)[0]

    assert get_args(Model.model_fields["backbone"].annotation) == tuple(BACKBONES)
    assert get_args(MetricName) == ("loss", *METRICS)
    assert get_args(PresetName) == tuple(PRESETS)
    assert get_args(names) == tuple(TRACKERS)


def tiny(dims: int, norm: str) -> tuple[nn.Module, int]:
    convolution = (nn.Conv2d if dims == 2 else nn.Conv3d)(1, 4, 3, stride=2)
    pooling = nn.AdaptiveAvgPool2d(1) if dims == 2 else nn.AdaptiveAvgPool3d(1)
    return nn.Sequential(convolution, nn.ReLU(), pooling, nn.Flatten()), 4


def test_added_backbone_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "tiny", tiny)
    settings = Model(hidden=[8], dropout=0).model_copy(update={"backbone": "tiny"})
    modalities = {"ct": Modality(column="ct", dims=2, size=[32, 32])}
    modalities |= {"mri": Modality(column="mri", dims=3, size=[32, 32, 32])}
    model = build_model(settings, modalities, 2, seed=0).train()
    images = {"ct": torch.ones(4, 1, 32, 32), "mri": torch.ones(4, 1, 32, 32, 32)}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(2):
        loss = nn.functional.cross_entropy(model(images, torch.ones(4, 2, dtype=torch.bool)), torch.ones(4).long())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert losses[1] < losses[0]


def specificity(labels: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Of the cases of class 0, the share that is given it; None without such a case."""
    is_negative = labels == 0
    return float(np.mean(probabilities[is_negative].argmax(axis=1) == 0)) if is_negative.any() else None


def specificity_limits(labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray) -> Limits:
    is_negative = labels == 0
    return share_limits(probabilities[is_negative].argmax(axis=1) == 0, patients[is_negative])


def test_added_metric_is_recorded_monitored_tracked_and_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    metric = Metric("specificity", specificity, limits=specificity_limits, describe=lambda classes: f"of {classes[0]}")
    monkeypatch.setitem(METRICS, "specificity", metric)
    cases, labels = [f"c{n}" for n in range(40)], np.repeat([0, 1], 20)
    logits = np.eye(2, dtype=np.float32)[np.where(np.arange(40) % 10 == 0, 1 - labels, labels)]  # 2 of 20 are wrong
    predictions = Predictions(cases, cases, labels, logits, np.ones((40, 1), bool), ["no", "yes"], ["ct"])
    record = {"event": "validation", "epoch": 1, "step": 5, **predictions.metrics()}
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(record) + "\n" + json.dumps(record | {"epoch": 2, "specificity": 0.95}) + "\n")
    history = read_history(path, config={"train": {"monitor": "specificity"}}, status={}, notes=[])

    assert record["specificity"] == 0.9
    assert history.validation["specificity"].tolist() == [0.9, 0.95]
    assert history.best_epoch == 2
    assert is_better(0.95, 0.9, "specificity")
    assert values_of(record)[1]["val/specificity"] == 0.9
    assert "specificity" in [text.get_text() for text in learning_curves(history).axes[1].texts]
    row = next(row for row in result_rows(read_back(predictions), ["no", "yes"]) if row["name"] == "Specificity")
    assert (row["what"], row["value"], row["span"]) == ("of no", "90.0 %", "69.9 to 97.2 %")


def test_added_metric_is_a_column_of_the_terminals_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "specificity_of_the_first_class"
    metric = Metric(name.replace("_", " "), specificity, limits=specificity_limits)
    monkeypatch.setitem(METRICS, name, metric)
    number = {"value": 0.9, "n": 40, "interval": [0.699, 0.972]}
    values = dict.fromkeys(METRICS, 0.75) | {name: 0.9, "loss": 0.5}
    fold = {"fold": 0, "cases": 40, "best_epoch": 3, **values}

    of_evaluation = evaluation_report.describe(
        {
            "cases": 40,
            "metrics": dict.fromkeys(METRICS, number),
            "by_site": [{"site": "one", "cases": 40, **dict.fromkeys(METRICS, number)}],
        }
    )
    of_folds = cross_validation_report.describe(
        {"folds": [fold], "mean": values, "std": values, "pooled": {"cases": 40, **values}}
    )

    for table, shown in ((of_evaluation, "90.0 % (69.9 to 97.2 %)"), (of_folds, "0.900")):
        head, *rows = table.splitlines()
        end = head.index("specificity of the first class") + len("specificity of the first class")
        assert len(rows) in (2, 4)
        assert all(row[:end].endswith(f" {shown}") for row in rows), table


def test_added_preset_gives_a_modality_its_preprocessing(monkeypatch: pytest.MonkeyPatch) -> None:
    preset = {
        "spacing_mm": (2.0, 2.0, 2.0),
        "window_hu": [0.0, 100.0],
        "intensity": "min_max",
        "clip_percentiles": None,
    }
    monkeypatch.setitem(PRESETS, "bone", preset)  # type: ignore[misc]
    fields = cut_to_dims(with_preset({"preset": "bone", "dims": 2, "size": [8, 8]}))
    modality = Modality.model_validate({**fields, "preset": None, "column": "ct"})
    image = Image(np.linspace(-100, 200, 256, dtype=np.float32).reshape(16, 16, 1), np.eye(4), "hu")

    assert (modality.spacing_mm, modality.window_hu) == ([2.0, 2.0], [0.0, 100.0])
    assert transform(image, modality).shape == (1, 8, 8)


def read_xyz(path: Path) -> Image:
    """A line with the shape, then the voxels."""
    shape = xyz_shape(path)
    return Image(np.loadtxt(path, skiprows=1).reshape(shape), np.eye(4), "unknown")


def xyz_shape(path: Path) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in path.read_text().splitlines()[0].split())
    except ValueError as error:
        raise ImageError("the first line is no shape") from error


def test_added_format_is_read_and_its_header_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(FORMATS, "xyz", FormatReader((".xyz",), read_xyz, xyz_shape))
    (tmp_path / "a.XYZ").write_text("2 3 1\n1 2 3 4 5 6\n")
    (tmp_path / "b.xyz").write_text("two three\n")

    assert check_header(tmp_path / "a.XYZ") == (2, 3, 1)
    assert read_image(tmp_path / "a.XYZ").voxels.reshape(-1).tolist() == [1, 2, 3, 4, 5, 6]
    with pytest.raises(ImageError, match="the first line is no shape"):
        read_image(tmp_path / "b.xyz")


class ListTracker:
    """Keeps the values in a list."""

    name, where, identity = "list", "list: in memory", "entry-1"

    def __init__(self, run_info: RunInfo) -> None:
        self.rows = list[Row]()

    def last_logged_step(self, event: str) -> int:
        return 0

    def log(self, rows: Sequence[Row]) -> None:
        self.rows.extend(rows)

    def drop_superseded(self) -> None:
        pass

    def show(self, results: Results) -> None:
        pass

    def finish(self, *, is_good: bool) -> None:
        pass


def test_added_tracker_gets_the_values_and_keeps_its_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started = list[ListTracker]()

    def start(run_info: RunInfo) -> ListTracker:
        started.append(ListTracker(run_info))
        return started[0]

    monkeypatch.setitem(TRACKERS, "list", start)
    config = load_config([], [])
    config = config.model_copy(update={"tracking": config.tracking.model_copy(update={"trackers": ["list"]})})
    trackers = open_trackers(config, RunFolder(tmp_path))
    trackers.log([{"event": "train", "epoch": 1, "step": 3, "loss": 0.5}])

    assert trackers.where() == ["list: in memory"]
    assert started[0].rows == [(3, {"train/loss": 0.5, "epoch": 1})]
    assert json.loads((tmp_path / "tracker.json").read_text())["list_id"] == "entry-1"


def read_back(predictions: Predictions) -> Any:
    """As the report reads them from predictions_val.csv."""
    table = read_written_table(io.StringIO(predictions.to_csv()))
    return read_predictions(table, list(predictions.classes), list(predictions.modalities), [])
