"""A finished run, made up, for the tests of the report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from vwmm.analysis.figures.report_figures import Example
from vwmm.analysis.pages.origin import Origin

CANARY = "CANARY-7f3a"
ORIGIN = Origin(
    "2026-03-01 10:00 UTC", "0.1.0", "a" * 40, "vwmm train --config my.yaml train.epochs=5 model.dropout=0.25"
)
MODALITIES = ("vw_mri", "mri", "ct")
CLASSES = ("normal", "stenosis", "dissection")


@pytest.fixture
def canary() -> str:
    """What stands in the run folder wherever an identifier or a path does."""
    return CANARY


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """Makes a run folder; see `write_run`."""
    return write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run: three classes, three modalities, 60 validation cases of 60 patients."""
    return write_run(tmp_path / "plaque-2")


@pytest.fixture
def make_examples() -> Callable[..., list[Example]]:
    """Makes images to show; see `draw_examples`."""
    return draw_examples


def write_run(
    run: Path, *, classes: tuple[str, ...] = CLASSES, modalities: tuple[str, ...] = MODALITIES, num_cases: int = 300,
    missing: float = 0.15, epochs: int = 30, steps_per_epoch: int = 15, skill: float = 2.2, cases_per_patient: int = 1,
) -> Path:  # fmt: skip
    """A run folder as the contract describes it, with a canary wherever an identifier or a path stands."""
    run.mkdir(parents=True)
    generator = np.random.default_rng(0)
    cohort = _cohort(generator, classes, modalities, num_cases, missing, cases_per_patient)
    cohort.to_csv(run / "split.csv", index=False)
    validated = cohort[cohort["split"] == "val"]
    _predictions(generator, validated, classes, modalities, skill).to_csv(run / "predictions_val.csv", index=False)
    events = _events(generator, epochs, steps_per_epoch, len(validated))
    (run / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), "utf-8")
    sizes = {0: {"dims": 3, "size": [128, 128, 64]}, 2: {"dims": 2, "size": [128, 128], "window_hu": [-150.0, 550.0]}}
    config = {
        "data": {"csv": f"/data/{CANARY}/cohort.csv", "root": f"/data/{CANARY}", "columns": {"case": "case"}},
        "split": {"val_fraction": 0.2, "test_fraction": 0.1, "seed": 0, "file": f"/data/{CANARY}/split.csv"},
        "modalities": {
            name: sizes.get(number, {"dims": 2, "size": [128, 128]}) | {"folder": f"{CANARY}/{name}"}
            for number, name in enumerate(modalities)
        },
        "cache": {"dir": f"/scratch/{CANARY}"},
        "model": {"backbone": "densenet121", "hidden": [512, 256, 128], "dropout": 0.5, "norm": "batch"},
        "train": {"epochs": epochs, "batch_size": 16, "micro_batch_size": 2, "optimizer": "adam", "lr": 1e-4,
                  "monitor": "loss", "seed": 0},
        "run": {"name": "plaque", "dir": f"{CANARY}/runs"},
    }  # fmt: skip
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
    (run / "environment.json").write_text(json.dumps(_environment(classes, modalities)), "utf-8")
    (run / "status.json").write_text(json.dumps({"state": "done", "reason": f"/x/{CANARY}", "epoch": epochs}), "utf-8")
    return run


def _cohort(
    generator: np.random.Generator, classes: tuple[str, ...], modalities: tuple[str, ...], num_cases: int,
    missing: float, cases_per_patient: int,
) -> pd.DataFrame:  # fmt: skip
    numbers = np.arange(num_cases)
    patients = numbers // cases_per_patient
    cohort = pd.DataFrame({
        "case": [f"{CANARY}-case-{n}" for n in numbers],
        "patient": [f"{CANARY}-patient-{n}" for n in patients],
        "label": [classes[(n + n // 10) % len(classes)] for n in patients],
        "split": [("val", "val", "train", "train", "train", "train", "train", "test", "train", "train")[n % 10]
                  for n in patients],
    })  # fmt: skip
    for name in modalities:
        cohort[f"hash_{name}"] = np.where(generator.random(num_cases) < missing, "", "0123456789abcdef")
    return cohort


def _predictions(
    generator: np.random.Generator, validated: pd.DataFrame, classes: tuple[str, ...], modalities: tuple[str, ...],
    skill: float,
) -> pd.DataFrame:  # fmt: skip
    labels = validated["label"].map({name: k for k, name in enumerate(classes)}).to_numpy()
    logits = generator.normal(size=(len(labels), len(classes))) + skill * np.eye(len(classes))[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = validated[["case", "patient", "label"]].copy()
    table["predicted"] = [classes[k] for k in probabilities.argmax(axis=1)]
    for k, name in enumerate(classes):
        table[f"p_{name}"] = probabilities[:, k]
    for name in modalities:
        table[f"present_{name}"] = (validated[f"hash_{name}"] != "").astype(int)
    table["site"] = f"{CANARY}-site"
    table["p_value"] = f"{CANARY}"  # a further column of the user's that looks like a class
    return table


def _events(generator: np.random.Generator, epochs: int, steps_per_epoch: int, num_cases: int) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for epoch in range(1, epochs + 1):
        level = 0.25 + 0.85 * np.exp(-epoch / 6)
        steps = range((epoch - 1) * steps_per_epoch + 1, epoch * steps_per_epoch + 1)
        events += [
            {"event": "train", "epoch": epoch, "step": step, "lr": 1e-4, "cases_per_s": 31.0,
             "loss": float(level * generator.lognormal(sigma=0.3))} for step in steps
        ]  # fmt: skip
        validation_loss = level + 0.12 + max(0, epoch - 18) * 0.012 + 0.02 * generator.normal()
        events.append({
            "event": "validation", "epoch": epoch, "step": epoch * steps_per_epoch, "loss": float(validation_loss),
            "accuracy": float(1 - 0.55 * level), "balanced_accuracy": float(0.99 - 0.55 * level),
            "auroc": float(1 - 0.3 * level), "cases": num_cases, "train_loss": float(level), "lr": 1e-4,
        })  # fmt: skip
    return events


def _environment(classes: tuple[str, ...], modalities: tuple[str, ...]) -> dict[str, Any]:
    return {
        "versions": {"vwmm": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "monai": "1.6.1"},
        "git_commit": "a" * 40, "command_line": f"vwmm train data.csv=/data/{CANARY}/cohort.csv", "num_processes": 2,
        "arguments": ["--config", f"{CANARY}/my.yaml", f"data.csv=/x/{CANARY}/cohort.csv", f"data.root=/x/{CANARY}"],
        "devices": ["NVIDIA H200", "NVIDIA H200"], "backend": "nccl", "mixed_precision": "bf16",
        "started": "2026-03-01T10:00:00Z", "cohort_hash": "c0ffee", "split_hash": "beef", "num_parameters": 25_164_739,
        "classes": list(classes), "modalities": list(modalities), "hostname": f"{CANARY}-host",
    }  # fmt: skip


def draw_examples(modalities: tuple[str, ...] = MODALITIES, classes: tuple[str, ...] = CLASSES) -> list[Example]:
    """Three examples of rings on noise; the second lacks its last image."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[-1:1:64j, -1:1:64j]
    shown = []
    for number, title in enumerate(("Example 1", "Example 2", "Example 3")):
        ring = np.exp(-((np.hypot(rows - 0.1 * number, columns) - 0.4) ** 2) / 0.01)
        images: dict[str, np.ndarray | None] = {
            name: np.clip(0.7 * ring / (1 + 0.4 * k) + 0.2 * generator.random((64, 64)), 0, 1)
            for k, name in enumerate(modalities)
        }
        if number == 1:
            images[modalities[-1]] = None
        shown.append(Example(title, images, classes[0], classes[number % 2], (0.98, 0.91, 0.52)[number]))
    return shown
