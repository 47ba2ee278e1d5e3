"""What `show_case` draws: the images of a case from real files, augmented as training augments them."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import texts
from tests.data.making import make_case, make_store, numbers, write_dicom, write_nifti
from vwmm.analysis.figures.case_sheet import Row
from vwmm.config.schema import Config
from vwmm.data.augmentation.augment import augmentation
from vwmm.data.cohort.cases import Case
from vwmm.data.loading.dataset import CaseDataset
from vwmm.engine.preprocessing import show_case as show_case_module
from vwmm.engine.preprocessing.show_case import show_case
from vwmm.system.errors import UserError

LPS = np.diag([-0.5, -0.5, 2.0, 1.0])
MODALITIES = {
    "mri": {"dims": 3, "size": [32, 30, 29]},
    "ct": {"dims": 2, "size": [32, 30], "window_hu": [-400, 800]},
    "pet": {"dims": 2, "size": [31, 29]},
}
OFTEN = {
    f"{part}_chance": 1 for part in ("affine", "low_resolution", "bias", "gamma", "intensity", "noise")
} | {"flip_axes": [0, 1]}  # fmt: skip


def make_config(tmp_path: Path, **changes: Any) -> Config:
    fields: dict[str, Any] = {
        "data": {"csv": str(tmp_path / "cohort.csv")},
        "modalities": MODALITIES,
        "augment": {"mri": OFTEN, "ct": OFTEN, "pet": OFTEN},
        "train": {"seed": 7},
        "model": {"backbone": "densenet_thin"},
    }
    return Config.model_validate({**fields, **changes})


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    """Three complete cases, but the second has no `pet`."""
    made = []
    for number in range(3):
        images: dict[str, Path | None] = {
            "mri": write_nifti(tmp_path / f"mri{number}.nii.gz", numbers(36, 20, 10, seed=number)),
            "ct": write_dicom(tmp_path / f"ct{number}.dcm", numbers(40, 24, seed=number).clip(0) + 600),
            "pet": None if number == 1 else write_nifti(tmp_path / f"pet{number}.nii", numbers(9, 8, seed=number)),
        }
        made.append(make_case(f"c{number}", "ab"[number % 2], line=number + 2, images=images))
    return made


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, Row]:
    """The rows of the last sheet, by modality."""
    rows: dict[str, Row] = {}
    draw = show_case_module.draw_case_sheet

    def note(given: Sequence[Row], *, title: str) -> bytes:
        rows.clear()
        rows.update({row.name: row for row in given})
        return draw(given, title=title)

    monkeypatch.setattr(show_case_module, "draw_case_sheet", note)
    return rows


def training_batch(config: Config, cases: list[Case], epoch: int, folder: Path) -> dict[str, torch.Tensor]:
    """The images that training gives the network in an epoch, of all cases in one batch."""
    store = make_store(folder / "cache")
    entries = {
        (case.name, name): store.entry(path, store.recipe(config.modalities[name]))
        for case in cases
        for name, path in case.images.items()
        if path is not None
    }
    dataset = CaseDataset(cases, config.modalities, entries, [0] * len(cases), store)
    augment = augmentation(dataset, config.modalities, config.augment, seed=config.train.seed, epoch=epoch)
    return augment(dataset[list(range(len(cases)))])


def test_the_augmented_pictures_are_what_training_makes_of_the_case_in_its_first_epochs(
    tmp_path: Path, cases: list[Case], shown: dict[str, Row]
) -> None:
    config = make_config(tmp_path)

    for number, case in enumerate(cases):
        show_case(config, case)

        for epoch in range(1, 5):
            batch = training_batch(config, cases, epoch, tmp_path)
            for name in ("mri", "ct", "pet"):
                row = shown[name]
                if case.images[name] is None:
                    assert row.before is row.after is None
                    continue
                found = row.augmented[epoch - 1]
                np.testing.assert_array_equal(found.voxels, batch[name][number, 0].numpy())
                assert not np.array_equal(found.voxels, np.asarray(row.after))
                assert found.words.startswith(f"epoch {epoch}: ")


def test_the_sheet_is_a_png_with_the_case_and_what_it_lacks(tmp_path: Path, cases: list[Case]) -> None:
    png = show_case(make_config(tmp_path), cases[1])

    picture = Image.open(io.BytesIO(png))
    picture.load()
    assert picture.format == "PNG"
    assert picture.width == 1920
    assert len(np.unique(np.asarray(picture)[..., 0])) > 100


def test_the_input_is_that_of_the_store_and_the_stored_values_are_untouched(
    tmp_path: Path, cases: list[Case], shown: dict[str, Row]
) -> None:
    config = make_config(tmp_path)

    show_case(config, cases[0], epochs=1)

    for name in config.modalities:
        path = cases[0].images[name]
        assert path is not None
        store = make_store(tmp_path / "cache")
        expected = np.load(store.entry(path, store.recipe(config.modalities[name])).path)
        np.testing.assert_array_equal(np.asarray(shown[name].after), expected[0])
        assert len(shown[name].augmented) == 1
    np.testing.assert_array_equal(np.asarray(shown["mri"].before), numbers(36, 20, 10))
    np.testing.assert_array_equal(np.asarray(shown["ct"].before), numbers(40, 24).clip(0).T + 600.0 - 1024)
    assert (shown["ct"].unit, shown["mri"].unit) == ("HU", "unknown")


def test_augmentation_that_is_off_gives_no_pictures(tmp_path: Path, cases: list[Case], shown: dict[str, Row]) -> None:
    show_case(make_config(tmp_path, augment={"ct": {"enabled": False}}), cases[0])

    assert [len(shown[name].augmented) for name in ("mri", "ct", "pet")] == [4, 0, 4]


def test_every_image_that_cannot_be_used_is_named_with_case_modality_and_file(
    tmp_path: Path, cases: list[Case]
) -> None:
    (tmp_path / "mri2.nii.gz").write_bytes(b"nothing")
    write_dicom(tmp_path / "ct2.dcm", np.zeros((40, 24)))
    (tmp_path / "pet2.nii").unlink()

    with pytest.raises(UserError) as caught:
        show_case(make_config(tmp_path), cases[2])

    mri, ct, pet = texts(caught.value.problems)
    assert mri == "cohort.csv line 4: case c2: mri mri2.nii.gz: this is not a gzip file, despite its name"
    assert ct.startswith("cohort.csv line 4: case c2: ct ct2.dcm: every voxel has the same value")
    assert pet == "cohort.csv line 4: case c2: pet pet2.nii: file not found"


def test_a_file_that_may_not_be_read_is_named_too(
    tmp_path: Path, cases: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, series: str | None) -> Image.Image:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(show_case_module, "read_image", refuse)

    with pytest.raises(UserError, match=r"cohort\.csv line 3: case c1: ct ct1\.dcm: Permission denied"):
        show_case(make_config(tmp_path), cases[1])


def test_a_nifti_of_a_known_orientation_says_how_it_lies(
    tmp_path: Path, cases: list[Case], shown: dict[str, Row]
) -> None:
    path = tmp_path / "lps.nii"
    write_nifti(path, numbers(36, 20, 10), LPS)
    case = make_case("c", images={**cases[0].images, "mri": path})

    show_case(make_config(tmp_path), case, epochs=1)

    row = shown["mri"]
    assert (row.orientation, row.after_orientation) == ("LPS", "RAS")
    assert row.spacing_mm == pytest.approx((0.5, 0.5, 2.0))
    assert row.after_spacing_mm == pytest.approx((18 / 32, 10 / 30, 20 / 29))
