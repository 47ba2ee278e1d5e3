"""What is found wrong with machines that tests describe by their facts."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from vwmm.config.loading import load_config
from vwmm.engine.distributed.precision import Convolutions
from vwmm.engine.machine.doctor import diagnose, is_compiled_for
from vwmm.engine.machine.facts import Disk, Gpu, Machine, driver_version, look_at_disk
from vwmm.system.problems import Problem

H100 = Gpu("NVIDIA H100", 80 * 10**9, (9, 0))
GOOD = Machine(
    convolutions=Convolutions("2.13.0", 91900, has_gpu=True, has_bf16=True),
    precision="bf16",
    cuda="12.8",
    driver="570.86.15",
    gpus=(H100,),
    torch_capabilities=("sm_80", "sm_90", "compute_90"),
    nccl="2.27.5",
    num_cores=16,
    memory=10**11,
    shm=(10**10, 10**10),
    disk=Disk("/scratch", "ext4", 10**12, 2e9),
    parameters=10**7,
)
SMALL = ["modalities.vw_mri.size=[32,32,32]", "modalities.mri.size=[32,32]", "modalities.ct=null"]


def found(machine: Machine, *words: str, present: float = 1.0) -> list[Problem]:
    config = load_config([], words)
    return diagnose(machine, config, dict.fromkeys(config.modalities, present))


def test_nothing_is_wrong_with_a_good_machine() -> None:
    assert found(GOOD) == []


@pytest.mark.parametrize(
    ("change", "words", "kind", "text"),
    [
        ({"convolutions": Convolutions("2.9.0", 91002, True, True)}, [], "precision_avoided", "many times"),
        ({"convolutions": Convolutions("2.8.0", 91002, True, True)}, [], "precision_avoided", "wrongly"),
        ({"convolutions": Convolutions("2.8.0", 90800, True, True)}, ["train.mixed_precision=bf16"],
         "precision_wrong", "cuDNN 9.8.0"),
        ({"convolutions": Convolutions("2.9.0", 91501, True, True)}, ["train.mixed_precision=bf16"],
         "precision_slow", "without cuDNN"),
        ({"cuda": None, "gpus": ()}, [], "no_gpu", "was built without CUDA"),
        ({"driver": "470.82.01"}, [], "no_gpu", "too old for CUDA 12.8: it needs 525.60.13"),
        ({"gpus": ()}, [], "no_gpu", "torch sees no GPU"),
        ({"torch_capabilities": ("sm_100",)}, [], "no_gpu", "not compiled for NVIDIA H100 [(]sm_90"),
        ({"gpus": (H100, H100), "nccl": None}, [], "nccl", "2 GPUs"),
        ({"gpus": (H100, H100), "nccl_settings": ("NCCL_P2P_DISABLE=1",)}, [], "nccl_setting", "NCCL_P2P_DISABLE=1"),
        ({"shm": (64 * 2**20, 60 * 2**20)}, [], "small_shm", "67.1 MB in all"),
        ({"shm": None}, [], "small_shm", "no /dev/shm"),
        ({"gpus": (H100, H100), "shm": (5 * 10**8, 5 * 10**8)}, [], "small_shm", "for 2 GPUs"),
        ({"shm": (2 * 10**8, 2 * 10**8)}, ["run.snapshots=true"], "small_shm", "needs 240 MB"),
        ({"disk": Disk("/nfs", "nfs4", 10**12, 20e6)}, [], "slow_disk", "reads 20 MB/s: 4.62 cases/s"),
        ({"disk": Disk("/", "ext4", 10**12, error="Permission denied")}, [], "place", "cannot be written"),
        ({}, [*SMALL, "train.micro_batch_size=2"], "few_in_batch_norm", "2.0 vw_mri, 2.0 mri"),
        ({"trackers": {"wandb": "no key"}}, [], "no_key", "wandb: no key"),
        ({"trackers": {"wandb": "no key"}}, ["tracking.mode=online"], "tracker", "wandb: no key"),
        ({"trackers": {"mlflow": "not installed (x)"}}, [], "tracker", "mlflow: not installed"),
    ],
)  # fmt: skip
def test_each_fault_is_found_by_itself(change: dict[str, object], words: list[str], kind: str, text: str) -> None:
    (problem,) = found(replace(GOOD, **change), *words)  # type: ignore[arg-type]
    assert problem.kind == kind
    assert re.search(text, problem.text), problem.text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"convolutions": Convolutions("2.8.0", 91002, True, True)}, ["modalities.vw_mri=null"]),
        ({"convolutions": Convolutions("2.8.0", 91002, True, True)}, ["train.mixed_precision=no"]),
        ({"driver": None, "cuda": None, "gpus": (), "nccl": None}, []),  # a machine without a GPU
        ({"nccl_settings": ("NCCL_P2P_DISABLE=1",)}, []),  # one GPU talks to nobody
        ({"gpus": (H100, H100), "nccl_settings": ("NCCL_P2P_DISABLE=0",)}, []),
        ({"torch_capabilities": ("compute_80",)}, []),  # the driver compiles it
        ({"shm": (2 * 10**8, 2 * 10**8)}, []),
        ({}, [*SMALL, "train.micro_batch_size=4"]),
        ({}, [*SMALL, "model.norm=group"]),
    ],
)
def test_what_does_no_harm_is_not_reported(change: dict[str, object], words: list[str]) -> None:
    assert found(replace(GOOD, **change), *words) == []  # type: ignore[arg-type]


def test_missing_images_leave_batch_norm_with_fewer() -> None:
    (problem,) = found(GOOD, *SMALL, "train.micro_batch_size=4", "train.batch_size=16", present=0.5)
    assert "2.0 vw_mri" in problem.found


@pytest.mark.parametrize(
    ("capability", "names", "fits"),
    [
        ((9, 0), ["sm_90"], True),
        ((8, 9), ["sm_80"], True),
        ((8, 0), ["sm_86"], False),
        ((12, 0), ["sm_90", "sm_120"], True),
        ((12, 0), ["sm_90"], False),
        ((12, 0), ["sm_90", "compute_90"], True),
        ((9, 0), ["sm_90a"], True),
    ],
)
def test_code_for_a_gpu_is_known_from_the_names_of_architectures(
    capability: tuple[int, int], names: list[str], fits: bool
) -> None:
    assert is_compiled_for(capability, names) is fits


def test_version_of_the_driver_is_read_from_its_file() -> None:
    text = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 2024\nGCC version:  gcc 11.4.0"
    assert driver_version(text) == "550.54.15"
    assert driver_version("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95  Release Build") == "580.95"
    assert driver_version("") is None


def test_disk_of_a_folder_to_come_is_measured_and_left_empty(tmp_path: Path) -> None:
    disk = look_at_disk(tmp_path / "cache" / "deep")
    assert disk.folder == str(tmp_path)
    assert disk.error == ""
    assert disk.read_bytes_per_s is not None
    assert disk.read_bytes_per_s > 0
    assert list(tmp_path.iterdir()) == []
