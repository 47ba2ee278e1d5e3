"""The cache is filled by whoever has time, forecast before it is, and never read in part."""

import logging
import re
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import texts
from tests.data.making import FLAT, SOLID, make_case, make_cohort, numbers, write_nifti
from vwmm.config.schema import Cache, Train
from vwmm.data.cohort.cases import Cohort
from vwmm.data.transforms.preprocess import load_input
from vwmm.engine.console import LOG
from vwmm.engine.distributed.runtime import Runtime, start_runtime
from vwmm.engine.preprocessing import fill_cache
from vwmm.engine.preprocessing.fill_cache import Images, available_memory, build_dataset, prepare_images
from vwmm.system.errors import UserError

MODALITIES = {"solid": SOLID, "flat": FLAT}
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return start_runtime(Train())


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    """Four cases, the last one without `flat`."""
    cases = []
    for number in range(4):
        image = write_nifti(tmp_path / "images" / f"{number}.nii", numbers(10, 9, 8, seed=number))
        cases.append(make_case(f"c{number}", images={"solid": image, "flat": image if number != 3 else None}))
    return make_cohort(cases)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    LOG.propagate = True
    with caplog.at_level(logging.INFO, logger="vwmm"):
        yield caplog


def prepare(runtime: Runtime, cohort: Cohort, folder: Path, shard: tuple[int, int] = (0, 1), **cache: object) -> Images:
    settings = Cache.model_validate({"dir": str(folder / "cache"), **cache})
    return prepare_images(runtime, cohort, MODALITIES, settings, shard=shard)


def test_the_run_says_what_it_needs_what_it_found_and_what_it_built(
    runtime: Runtime, cohort: Cohort, tmp_path: Path, lines: pytest.LogCaptureFixture
) -> None:
    first = prepare(runtime, cohort, tmp_path)
    expected = r"cache: \S+: 0 of 7 images are there; disk: 4\.99 kB .* free; memory: 3\.65 kB .* available"
    assert re.fullmatch(expected, lines.messages[0])
    assert lines.messages[1] == "cache: 0 of 7 images found, 7 transformed now"

    lines.clear()
    second = prepare(runtime, cohort, tmp_path)
    assert lines.messages[-1] == "cache: 7 of 7 images found, 0 transformed now"
    assert (first.num_built, second.num_built) == (7, 0)
    assert first.hashes(cohort) == second.hashes(cohort)


def test_a_dataset_gives_the_transformed_images(runtime: Runtime, cohort: Cohort, tmp_path: Path) -> None:
    dataset = build_dataset(runtime, cohort.cases, ["a"], MODALITIES, prepare(runtime, cohort, tmp_path))

    for index, case in enumerate(cohort.cases):
        for name, modality in MODALITIES.items():
            path, found = case.images[name], dataset.image(index, name)
            assert (path is None) == (found is None)
            if path is not None:
                np.testing.assert_array_equal(found, load_input(path, modality))


def test_shards_divide_the_images_and_make_up_the_whole(runtime: Runtime, cohort: Cohort, tmp_path: Path) -> None:
    built = [prepare(runtime, cohort, tmp_path, (number, 3)).num_built for number in range(3)]

    assert built == [3, 2, 2]
    assert prepare(runtime, cohort, tmp_path).num_built == 0


def test_too_little_room_is_an_error_before_the_work(
    runtime: Runtime, cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fill_cache.shutil, "disk_usage", lambda _: Usage(0, 0, 64 * 2**20 + 1000))

    with pytest.raises(
        UserError, match=r"has 67.1 MB free, 7 images need 4.99 kB, and 67.1 MB are to stay free: make room .*prune"
    ):
        prepare(runtime, cohort, tmp_path)
    assert not list((tmp_path / "cache").glob("??/*"))


def test_a_full_disk_does_not_matter_where_everything_is_there(
    runtime: Runtime, cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(runtime, cohort, tmp_path)
    monkeypatch.setattr(fill_cache.shutil, "disk_usage", lambda _: Usage(0, 0, 0))

    # Changed just now, these images are not in the index: they are read to find their entries.
    assert prepare(runtime, cohort, tmp_path).num_built == 0


def test_more_than_the_memory_holds_is_said(
    runtime: Runtime, cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fill_cache, "available_memory", lambda: 100)

    prepare(runtime, cohort, tmp_path)

    assert "do not fit into memory, so each epoch reads them from the disk; cache.dtype=float16 halves" in lines.text


def test_the_limit_of_a_job_counts_as_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill_cache, "_CGROUPS", tmp_path)
    monkeypatch.setattr(fill_cache, "_own_group", lambda: Path("slurm/job_1"))
    (tmp_path / "slurm" / "job_1").mkdir(parents=True)
    (tmp_path / "slurm" / "memory.max").write_text("max\n")
    everything = available_memory()
    assert everything > 10**8

    (tmp_path / "slurm" / "job_1" / "memory.max").write_text("1000\n")
    assert available_memory() == 1000


def test_every_image_that_fails_is_named_with_its_line(runtime: Runtime, cohort: Cohort, tmp_path: Path) -> None:
    for number in (1, 3):
        image = cohort.cases[number].images["solid"]
        assert image is not None
        write_nifti(image, np.full((10, 9, 8), 3, np.int16))

    with pytest.raises(UserError) as caught:
        prepare(runtime, cohort, tmp_path)
    assert len(texts(caught.value.problems)) == 3
    assert all("line 2: " in problem and "same value" in problem for problem in texts(caught.value.problems))


def test_a_cache_that_cannot_be_written_is_said_once(runtime: Runtime, cohort: Cohort, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()

    with pytest.raises(UserError) as caught:
        prepare(runtime, cohort, tmp_path)
    assert len(texts(caught.value.problems)) == 1
    assert "cache.dir: " in texts(caught.value.problems)[0]
    assert "cannot be written" in texts(caught.value.problems)[0]


def test_without_a_gpu_on_device_says_that_the_cache_is_read(
    runtime: Runtime, cohort: Cohort, tmp_path: Path, lines: pytest.LogCaptureFixture
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    images = prepare(runtime, cohort, tmp_path, on_device=True)

    assert not build_dataset(runtime, cohort.cases, ["a"], MODALITIES, images).is_resident
    assert "cache.on_device: there is no GPU here" in lines.text


def test_a_damaged_entry_is_mended_in_the_middle_of_a_run(
    runtime: Runtime, cohort: Cohort, tmp_path: Path, lines: pytest.LogCaptureFixture
) -> None:
    images = prepare(runtime, cohort, tmp_path)
    path = images.entries["c1", "solid"].path
    content = bytearray(path.read_bytes())
    content[300] ^= 4
    path.write_bytes(content)

    dataset = build_dataset(runtime, cohort.cases, ["a"], MODALITIES, images)
    image = cohort.cases[1].images["solid"]
    assert image is not None
    np.testing.assert_array_equal(dataset.image(1, "solid"), load_input(image, SOLID))
    assert f"{path.name} was damaged or absent; it is rebuilt" in lines.text
