"""What is counted of a model, and what is measured of this device."""

import pytest
import torch

from benchmarks import scaling
from tests.conftest import TINY
from vwmm.config.loading import load_config
from vwmm.engine.machine.floors import Peaks, Work, count_work, floors, measure_peaks


def test_flops_and_parameters_are_those_of_the_scaling_plan() -> None:
    config = load_config([], TINY)
    work, whole = count_work(config), scaling.count_workload(config)
    assert sum(work.flops.values()) == pytest.approx(whole.step_flops, rel=0.01)  # without the head
    assert work.parameters == pytest.approx(whole.parameters, rel=0.01)  # of three classes there
    assert work.flops["vw_mri"] > 10 * work.flops["mri"]
    assert work.kernels > 300


def test_bytes_are_those_of_tensors_that_are_not_views() -> None:
    """A volume of twice the length has twice the traffic but for the weights."""
    small = count_work(load_config([], [*TINY, "modalities.mri=null", "modalities.ct=null"]))
    large = count_work(
        load_config([], [*TINY, "modalities.vw_mri.size=[32,32,64]", "modalities.mri=null", "modalities.ct=null"])
    )
    assert large.bytes["vw_mri"] == pytest.approx(2 * small.bytes["vw_mri"], rel=0.1)
    assert small.bytes["vw_mri"] > 4 * 32**3 * 8  # at least the first layer's, eight times over


def test_floors_are_sums_over_the_images_that_are_there() -> None:
    work = Work({"ct": 2e9, "mri": 1e9}, {"ct": 4e9, "mri": 2e9}, kernels=1000, parameters=1)
    peaks = Peaks(flops_per_s=1e12, bytes_per_s=1e11, launch_s=1e-5)
    found = floors(work, peaks, {"ct": 4, "mri": 2.0}, num_passes=2, precision="no")
    assert found == pytest.approx({"arithmetic": 0.01, "bytes": 0.2, "launches": 0.02})
    assert floors(work, peaks, {"ct": 4, "mri": 2.0}, 2, "bf16")["bytes"] == pytest.approx(0.1)


def test_peaks_of_this_device_are_measured() -> None:
    peaks = measure_peaks(torch.device("cpu"), "no")
    assert peaks.flops_per_s > 1e8
    assert peaks.bytes_per_s > 1e7
    assert 0 < peaks.launch_s < 0.1


@pytest.mark.parametrize(
    "words",
    [
        *([f"model.backbone={name}"] for name in ("resnet10", "resnet50", "densenet121")),
        ["model.checkpointing=true"],
        ["model.norm=group"],
        ["model.features=8"],
    ],
)
def test_work_of_any_model_can_be_counted(words: list[str]) -> None:
    work = count_work(load_config([], [*TINY, *words]))
    assert all(count > 0 for count in (*work.flops.values(), *work.bytes.values(), work.kernels))
