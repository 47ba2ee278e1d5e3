"""DICOM as 2D and 3D modalities through the whole chain: transforms, check of a cohort, cache, batch."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.conftest import texts
from tests.data.making import make_store
from tests.data.making_dicom import OBLIQUE_AXES, itk_affine, itk_file, slice_of
from tests.data.monai_recipe import monai_input
from tests.data.readers.dicom.test_volume import edit, quietly, save, setting, slices
from vwmm.config.schema import Data, Modality
from vwmm.data.cache.content_index import content_hash, identify
from vwmm.data.checks.preflight import check_images
from vwmm.data.cohort.read_cases import read_cohort
from vwmm.data.readers.image import Image, ImageError
from vwmm.data.readers.read import read_image
from vwmm.data.transforms.geometry import orient_and_crop, upright_spacing
from vwmm.data.transforms.preprocess import Mode, load_input

RECIPES: dict[str, dict[str, Any]] = {
    "volume": {"size": (8, 7, 5)},
    "volume as stored": {"size": (8, 7, 5), "orientation": None},
    "volume at a spacing": {"size": (8, 7, 5), "spacing_mm": [1.0, 1.5, 2.0], "window_hu": [-200, 900]},
    "middle slice": {"size": (8, 7)},
    "slice": {"size": (8, 7), "slice": 1, "orientation": "LPS", "window_hu": [-200, 900]},
    "slice at a spacing": {"size": (8, 7), "orientation": "SAL", "spacing_mm": [1.0, 1.5], "intensity": "z_score"},
}


def recipe(name: str = "volume", **fields: Any) -> Modality:
    fields = {**RECIPES[name], **fields}
    return Modality.model_validate({"dims": len(fields["size"]), **fields})


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize("axes", [(1, 0, 0, 0, 1, 0), OBLIQUE_AXES], ids=["straight", "oblique"])
def test_a_series_becomes_what_the_same_volume_as_nifti_becomes(
    name: str, mode: Mode, axes: tuple[float, ...], tmp_path: Path
) -> None:
    slices(tmp_path / "a", axes=axes)
    source = read_image(tmp_path / "a")
    nibabel.save(nibabel.Nifti1Image(source.voxels, source.affine), tmp_path / "b.nii")

    found = load_input(tmp_path / "a", recipe(name), mode=mode)

    tolerance = 1e-4 * np.ptp(found)  # a NIfTI keeps its affine in float32
    np.testing.assert_allclose(found, load_input(tmp_path / "b.nii", recipe(name), mode=mode), rtol=0, atol=tolerance)
    np.testing.assert_allclose(found, monai_input(source, recipe(name)), rtol=0, atol=1e-5 * np.ptp(found))
    if mode == "exact":
        assert found.tobytes() == monai_input(source, recipe(name)).tobytes()


@pytest.mark.parametrize("axes", [(1, 0, 0, 0, 1, 0), OBLIQUE_AXES], ids=["axial", "coronal"])
def test_a_single_slice_is_an_input_of_two_dimensions_only(axes: tuple[float, ...], tmp_path: Path) -> None:
    path, _ = slices(tmp_path / "a", axes=axes, count=2)

    assert load_input(path, recipe("middle slice")).shape == (1, 8, 7)
    with pytest.raises(ImageError, match="expected a volume"):
        load_input(path, recipe("volume"))


@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize("spacing", [None, [0.7, 0.7, 2.5]])
def test_a_tilted_series_is_brought_to_right_angles(mode: Mode, spacing: list[float] | None, tmp_path: Path) -> None:
    """A tilt of 17 degrees moves a rod along the patient from slice to slice in the file, and not in the input."""

    def rod(dataset: Any, number: int) -> None:
        rows, columns = np.mgrid[:34, :40]
        centre = 20 - number * 2.5 * 0.3 / 0.661468  # the slices move by 0.3 of their distance down a column
        pixels = 1000 * np.exp(-((rows - centre) ** 2 + (columns - 20) ** 2) / 8)
        dataset.PixelData = pixels.astype(np.int16).tobytes()
        dataset.RescaleIntercept = 0

    slices(tmp_path / "a", count=8, tilt=0.3, edit=rod)
    stacked = read_image(tmp_path / "a").voxels
    assert len({np.argmax(stacked[..., number].sum(axis=0)) for number in range(8)}) > 4

    modality = recipe(size=(40, 44, 8), orientation="LPS", spacing_mm=spacing, intensity="none")
    (found,) = load_input(tmp_path / "a", modality, mode=mode)

    centres = (found * np.arange(44)[:, None]).sum(axis=(0, 1)) / found.sum(axis=(0, 1))
    assert np.ptp(centres) < 0.2


def test_a_tilted_series_is_resampled_by_monais_spacing(tmp_path: Path) -> None:
    slices(tmp_path / "a", tilt=0.3)
    source = read_image(tmp_path / "a")
    affine = orient_and_crop(source, recipe()).affine

    expected = monai_input(source, recipe(spacing_mm=upright_spacing(affine[:3, :3])))

    assert load_input(tmp_path / "a", recipe()).tobytes() == expected.tobytes()


def test_a_slice_of_a_tilted_series_is_the_slice_as_it_was_made(tmp_path: Path) -> None:
    paths = slices(tmp_path / "a", tilt=0.3)

    found = load_input(tmp_path / "a", recipe("middle slice"))

    np.testing.assert_array_equal(found, load_input(paths[2], recipe("middle slice")))


def test_no_hounsfield_window_is_laid_on_inverted_values(tmp_path: Path) -> None:
    dataset = slice_of(0)
    dataset.PhotometricInterpretation = "MONOCHROME1"
    path = quietly(save, dataset, tmp_path / "a.dcm")

    with pytest.raises(ImageError, match="the CT's lowest value is white"):
        load_input(path, recipe("slice", slice="middle"))
    assert load_input(path, recipe("middle slice")).shape == (1, 8, 7)


def test_spacing_needs_a_file_that_says_it(tmp_path: Path) -> None:
    dataset = slice_of(0)
    del dataset.PixelSpacing
    path = quietly(save, dataset, tmp_path / "a.dcm")

    assert load_input(path, recipe("middle slice")).shape == (1, 8, 7)
    with pytest.raises(ImageError, match="has no voxel sizes"):
        load_input(path, recipe("slice at a spacing"))


# --- cohort and cache ----------------------------------------------------------------------------------------------


def test_the_check_of_a_cohort_names_the_line_the_modality_and_the_slice(tmp_path: Path) -> None:
    slices(tmp_path / "good")
    for path in slices(tmp_path / "bad")[2:3]:
        path.unlink()
    slices(tmp_path / "odd", edit=lambda dataset, number: setattr(dataset, "SeriesInstanceUID", f"1.2.{number % 2}"))
    (tmp_path / "cohort.csv").write_text("case,label,ct\na,x,good\nb,y,bad\nc,x,odd\nd,y,good/IM00\n")
    cohort = read_cohort(Data(csv=str(tmp_path / "cohort.csv")), {"ct": recipe()})

    bad, odd, single = texts(check_images(cohort, {"ct": recipe()}))

    assert bad.startswith("cohort.csv line 3: case b: ct bad: slices are missing between IM07 and IM10: 5 mm apart")
    assert odd.startswith("cohort.csv line 4: case c: ct odd: the folder has 2 DICOM series: '")
    assert (
        single
        == "cohort.csv line 5: case d: ct good/IM00: expected a volume (dims: 3), found a single slice of 40 x 34 x 1"
    )
    _, odd, *_ = texts(check_images(cohort, {"ct": recipe(series="1.2.1")}))
    assert odd.startswith("cohort.csv line 3: case b: ct bad: no DICOM series has the UID or description '1.2.1'")


def test_cache_identifies_a_series_by_file_contents_not_names(tmp_path: Path) -> None:
    paths = slices(tmp_path / "a")
    before, identity, expected = (
        content_hash(tmp_path / "a"),
        identify(tmp_path / "a"),
        load_input(tmp_path / "a", recipe()),
    )

    for number, path in enumerate(sorted(paths)):
        path.rename(path.with_name(f"{9 - number}.dcm"))
    (tmp_path / "a" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "a" / "DICOMDIR").write_bytes(b"x")
    assert content_hash(tmp_path / "a") == before
    assert identify(tmp_path / "a") != identity
    np.testing.assert_array_equal(load_input(tmp_path / "a", recipe()), expected)

    for path in sorted((tmp_path / "a").glob("*.dcm")):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert content_hash(tmp_path / "a") != before, path.name
        path.write_bytes(content)
    path.unlink()
    assert content_hash(tmp_path / "a") != before


def test_each_series_of_a_folder_has_its_own_entry(tmp_path: Path) -> None:
    def two(dataset: Any, number: int) -> None:
        dataset.SeriesDescription = dataset.SeriesInstanceUID = f"1.{number % 2}"
        dataset.ImagePositionPatient = [0, 0, number // 2]

    slices(tmp_path / "a", count=8, edit=two)
    store = make_store(tmp_path / "cache")

    entries = [store.entry(tmp_path / "a", store.recipe(recipe(series=f"1.{number}"))) for number in range(2)]

    assert len({entry.key for entry in entries}) == 2
    for number, entry in enumerate(entries):
        np.testing.assert_array_equal(np.load(entry.path), load_input(tmp_path / "a", recipe(series=f"1.{number}")))
        again = store.entry(tmp_path / "a", store.recipe(recipe(series=f"1.{number}")))
        assert (again.key, again.was_built) == (entry.key, False)


def test_what_the_file_says_of_its_geometry_is_known(tmp_path: Path) -> None:
    def known(image: Image) -> tuple[bool, bool]:
        return image.has_spacing, image.has_orientation

    path = slices(tmp_path / "a")[0]
    assert known(read_image(path)) == known(read_image(tmp_path / "a")) == (True, True)
    edit(path, lambda dataset: dataset.pop("ImageOrientationPatient"))
    assert known(read_image(path)) == (True, False)
    edit(path, setting(PixelSpacing=None))
    assert known(read_image(path)) == (False, False)
    np.testing.assert_allclose(read_image(path).affine, itk_affine(itk_file(path)), atol=1e-3)
