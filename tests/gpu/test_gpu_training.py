"""Training and prediction on a real GPU. Run by `make gpu`."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import TINY, read_metrics, run_command
from tests.data.loading.test_dataset import make_dataset
from vwmm.data.loading.loader import load_batches

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]


def train(cohort: Path, cwd: Path, launch_file: str, *arguments: str) -> Path:
    done = run_command(
        "train", "--launch", f"launch/{launch_file}.yaml", f"data.csv={cohort}", *TINY, "run.name=gpu", *arguments,
        cwd=cwd,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return cwd / "runs" / "gpu"


def test_the_first_steps_on_a_gpu_are_those_on_the_cpu(cohort: Path, tmp_path: Path) -> None:
    losses = {}
    for launch_file in ("cpu", "one_gpu"):
        (tmp_path / launch_file).mkdir()
        run = train(cohort, tmp_path / launch_file, launch_file, "train.mixed_precision=no", "train.epochs=1")
        losses[launch_file] = [record["loss"] for record in read_metrics(run, "train")]
    environment = json.loads((run / "environment.json").read_text())
    assert environment["devices"][0].startswith("cuda")
    np.testing.assert_allclose(losses["one_gpu"], losses["cpu"], atol=5e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "auto"])
def test_mixed_precision_trains_and_predicts_the_same_table_again(precision: str, cohort: Path, tmp_path: Path) -> None:
    run = train(cohort, tmp_path, "one_gpu", f"train.mixed_precision={precision}")
    assert all(math.isfinite(record["loss"]) for record in read_metrics(run, "train"))
    expected = {"auto": "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"}
    environment = json.loads((run / "environment.json").read_text())
    assert environment["mixed_precision"] == expected.get(precision, precision)

    done = run_command("predict", run, cohort, "--out", "all.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    everyone = dict(line.split(",", 1) for line in (tmp_path / "all.csv").read_text().splitlines())
    for line in (run / "predictions_val.csv").read_text().splitlines():
        case, rest = line.split(",", 1)
        assert everyone[case] == rest


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("num_threads", [0, 2])
def test_pinned_buffers_that_are_used_again_hold_what_was_asked_for(
    dtype: str, num_threads: int, tmp_path: Path
) -> None:
    dataset, device = make_dataset(tmp_path, dtype), torch.device("cuda")
    wanted = [[number % 6, (number * 5 + 1) % 6] for number in range(200)]
    for indices, batch in zip(wanted, load_batches(dataset, wanted, device, num_threads=num_threads), strict=True):
        expected = dataset[indices].cast()
        for name, image in batch.images.items():
            assert image.device.type == "cuda"
            torch.testing.assert_close(image.cpu(), expected.images[name], rtol=1e-6, atol=1e-6)
        assert batch.present.cpu().tolist() == expected.present.tolist()


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_cohort_in_the_gpus_memory_trains_as_one_in_the_cache(dtype: str, cohort: Path, tmp_path: Path) -> None:
    losses = {}
    for on_device in ("false", "true"):
        (tmp_path / on_device).mkdir()
        keys = [f"cache.on_device={on_device}", f"cache.dtype={dtype}", "train.mixed_precision=no", "train.epochs=1"]
        run = train(cohort, tmp_path / on_device, "one_gpu", *keys)
        losses[on_device] = [record["loss"] for record in read_metrics(run, "train")]
    np.testing.assert_allclose(losses["true"], losses["false"], atol=1e-4)
