"""What is kept of one image, and which kind of fault it has."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from tests.data.making import numbers, write_nifti, write_series
from vwmm.config.schema import Modality
from vwmm.data.checks.image_facts import ImageFacts, ImageJob, Unusable, facts_of

VOLUME, SLICE = Modality(dims=3, size=[8, 8, 8]), Modality(dims=2, size=[8, 8])


def kind(path: Path, modality: Modality = VOLUME) -> str:
    found = facts_of(ImageJob(path, modality))
    return found.kind if isinstance(found, Unusable) else "fine"


def test_each_fault_has_its_kind(tmp_path: Path) -> None:
    good = numbers(6, 5, 4)
    not_finite = good.astype(np.float32)
    not_finite[0, 0, 0] = np.nan
    (tmp_path / "empty.nii").write_bytes(b"")
    (tmp_path / "words.nii").write_text("words, of some length" * 40)
    mixed = write_series(tmp_path / "mixed", numbers(6, 5, 3).clip(0), series="1")
    for file in write_series(tmp_path / "more", numbers(6, 5, 3).clip(0), series="2").iterdir():
        file.rename(mixed / f"more_{file.name}")

    assert kind(write_nifti(tmp_path / "good.nii", good)) == "fine"
    assert kind(tmp_path / "empty.nii") == "empty"
    assert kind(tmp_path / "words.nii") == "unreadable"
    assert kind(write_nifti(tmp_path / "same.nii", np.ones_like(good))) == "constant"
    assert kind(write_nifti(tmp_path / "nan.nii", not_finite)) == "not_finite"
    assert kind(write_nifti(tmp_path / "slice.nii", good[..., :1])) == "dimension"
    assert kind(write_nifti(tmp_path / "time.nii", numbers(4, 4, 4, 3))) == "dimension"
    assert kind(mixed) == "mixed_series"
    uid = str(pydicom.dcmread(next(mixed.glob("more_*"))).SeriesInstanceUID)
    assert kind(mixed, Modality(dims=3, size=[8, 8, 8], series=uid)) == "fine"
    assert kind(tmp_path / "gone.nii") == "unreadable"
    assert kind(tmp_path / "image.xyz") == "unreadable"


def test_facts_of_a_volume(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", numbers(6, 5, 4))

    found = facts_of(ImageJob(path, VOLUME, has_picture=True))

    assert isinstance(found, ImageFacts)
    assert found.shape == (6, 5, 4)
    assert found.spacing_mm == pytest.approx((0.7, 0.8, 2.5), abs=0.001)
    assert found.day == int(path.stat().st_mtime // 86400)
    assert found.plane is not None
    assert found.plane.shape == (6, 5, 4)


def test_a_single_slice_is_two_dimensional(tmp_path: Path) -> None:
    found = facts_of(ImageJob(write_nifti(tmp_path / "a.nii", numbers(6, 5, 1)), SLICE, has_picture=True))

    assert isinstance(found, ImageFacts)
    assert found.shape == (6, 5)
    assert found.miniature.ndim == 2
