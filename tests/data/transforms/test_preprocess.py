"""The fixed transforms against MONAI's own, and the ways from a volume to a slice."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
import torch
from PIL import Image as Pillow

from tests.data.making import OBLIQUE, numbers, write_dicom, write_nifti, write_series
from tests.data.monai_recipe import monai_input
from vwmm.config.schema import Modality
from vwmm.data.readers.image import Image, ImageError, as_voxels
from vwmm.data.readers.read import read_image
from vwmm.data.transforms import preprocess
from vwmm.data.transforms.preprocess import Mode, check_dims, load_input, recipe_key, transform

pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader")
LABELS = (("L", "R"), ("P", "A"), ("I", "S"))


def modality(*size: int, **fields: Any) -> Modality:
    return Modality.model_validate({"dims": len(size), "size": size, "orientation": None, **fields})


def image_of(voxels: np.ndarray, affine: np.ndarray | None = None) -> Image:
    return Image(voxels.astype(np.float32), np.eye(4) if affine is None else affine, "unknown")


def resized(plane: np.ndarray, *size: int) -> np.ndarray:
    """(1, *size): area-averaged by torch."""
    return torch.nn.functional.interpolate(torch.from_numpy(plane.astype(np.float32))[None, None], size, mode="area")[
        0
    ].numpy()


def scaled(voxels: np.ndarray) -> np.ndarray:
    values = voxels.astype(np.float32)
    return (values - values.min()) / (values.max() - values.min())


@pytest.mark.parametrize("orientation", [None, "RAS", "LPS", "SAL"])
@pytest.mark.parametrize("size", [(8, 6, 4), (32, 40, 24)])
def test_a_volume_is_transformed_as_monai_does_it_bit_for_bit(
    orientation: str | None, size: tuple[int, ...], tmp_path: Path
) -> None:
    from monai.transforms import Compose, LoadImage, Orientation, Resize, ScaleIntensity

    path = write_nifti(tmp_path / "a.nii.gz", numbers(20, 30, 10))
    steps = [LoadImage(image_only=True, ensure_channel_first=True)]
    steps += [Orientation(axcodes=orientation, labels=LABELS)] if orientation else []
    expected = Compose([*steps, ScaleIntensity(), Resize(size)])(path).numpy()

    found = load_input(path, modality(*size, orientation=orientation))

    assert found.dtype == np.float32
    assert found.shape == (1, *size)
    assert found.flags.c_contiguous
    assert found.tobytes() == np.ascontiguousarray(expected).tobytes()


DTYPES = ["u1", "<i2", "<u2", "<i4", "<f4", "<f8", ">i2", ">f4", "i1"]
RECIPES: dict[str, dict[str, Any]] = {
    "smaller": {"size": (8, 6, 4)},
    "larger and odd": {"size": (23, 41, 13), "orientation": "PIR"},
    "equal": {"size": (20, 30, 10)},
    "window": {"size": (9, 30, 5), "orientation": "LAS", "window_hu": [-100.5, 77.7]},
    "clipped": {"size": (9, 6, 4), "window_hu": [-10, 30], "intensity": "none"},
    "z-scores": {"size": (8, 6, 4), "orientation": "SPL", "intensity": "z_score"},
    "z-scores of a window": {"size": (8, 6, 4), "window_hu": [-100, 77], "intensity": "z_score"},
    "as stored": {"size": (8, 6, 4), "orientation": "ASR", "intensity": "none"},
    "a slice": {"size": (8, 6), "orientation": "IPR", "slice": 3},
    "the middle": {"size": (40, 29), "window_hu": [-5, 50]},
    "z-scores of a slice": {"size": (11, 12), "orientation": "RAS", "intensity": "z_score"},
    "one voxel": {"size": (1, 1, 1)},
    "one pixel": {"size": (1, 1), "orientation": "SAL"},
}


def similar(found: np.ndarray, expected: np.ndarray) -> bool:
    """Within 1e-5 of the range of intensities before the resize, which is 1 in a recipe with `min_max`."""
    return bool(np.abs(found - expected).max() <= 1e-5 * max(np.ptp(expected), 1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_monais_bits_or_is_as_good_for_every_dtype(dtype: str, name: str) -> None:
    stored = (numbers(20, 30, 10) % 120 - (60 if np.dtype(dtype).kind in "if" else 0)).astype(dtype)
    for voxels in (stored, np.asfortranarray(stored), np.asfortranarray(stored / 7)):
        source, recipe = Image(as_voxels(voxels), OBLIQUE, "unknown"), modality(*RECIPES[name]["size"], **RECIPES[name])

        exact, fast = transform(source, recipe), transform(source, recipe, mode="fast")

        expected = monai_input(source, recipe)
        assert exact.tobytes() == expected.tobytes()
        assert similar(fast, expected)
        assert exact.flags.c_contiguous
        assert fast.flags.c_contiguous
        assert exact.dtype == fast.dtype == np.float32
        assert exact.shape == fast.shape == (1, *recipe.size)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As vwmm computes them: with more threads torch adds up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("orientation", ["RAS", "RSA", "ARS", "ASR", "SRA", "SAR", "LPI", "ILP"])
@pytest.mark.parametrize("size", [(7, 5, 3), (1, 1, 1)])
def test_every_turn_of_a_file_has_monais_bits(orientation: str, size: tuple[int, ...], tmp_path: Path) -> None:
    """MONAI's own chain from the file on: torch's mean and deviation depend on how each turn lays out the voxels."""
    from monai.transforms import Compose, EnsureChannelFirst, LoadImage, NormalizeIntensity, Orientation, Resize

    for seed in range(4):
        voxels = np.random.default_rng(seed).normal(100, 40, (23 + seed, 37, 41 - seed)).astype(np.float32)
        path = write_nifti(tmp_path / "a.nii", voxels)
        steps = [LoadImage(image_only=True), EnsureChannelFirst(), Orientation(orientation, labels=LABELS)]
        expected = Compose([*steps, NormalizeIntensity(), Resize(size)])(path).numpy()

        found = load_input(path, modality(*size, orientation=orientation, intensity="z_score"))

        assert found.tobytes() == np.ascontiguousarray(expected).tobytes()


def test_windows_of_many_voxels_are_added_up_as_torch_adds_them() -> None:
    """Torch's own mean of 512,000 values is 1e-3 off: thirds, added to a sum in float32, are rounded to one side."""
    voxels = np.full((160, 160, 160), 500, np.int16)
    voxels[0, 0, 0], voxels[0, 0, 1] = 0, 1500
    source, recipe = Image(voxels, np.eye(4), "unknown"), modality(2, 2, 2)

    assert similar(transform(source, recipe, mode="fast"), monai_input(source, recipe))


def write_volume(path: Path) -> Path:
    """numbers(20, 30, 10) as a file of the suffix's format; without negative ones where it cannot have them."""
    has_sign = path.suffix not in (".png", ".tif", ".dcm") and path.name != "series"
    voxels = numbers(20, 30, 10).clip(-500 if has_sign else 0)
    if path.suffix == ".npy":
        np.save(path, voxels)
    elif path.suffix in (".nrrd", ".mha", ".mhd"):
        sitk.WriteImage(sitk.GetImageFromArray(voxels.T), str(path))
    elif path.suffix in (".png", ".tif"):
        Pillow.fromarray(voxels[..., 0].astype(np.uint16)).save(path)
    elif path.suffix == ".dcm":
        write_dicom(path, voxels[..., 0])
    elif path.name == "series":
        write_series(path, voxels)
    else:
        write_nifti(path, voxels)
    return path


FORMATS = ["a.nii", "a.nii.gz", "a.dcm", "series", "a.nrrd", "a.mha", "a.mhd", "a.png", "a.tif", "a.npy"]
PICTURES = ("a.png", "a.tif")
WITHOUT_SPACING = (*PICTURES, "a.npy")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("intensity", ["min_max", "z_score"])
def test_every_format_has_monais_bits(name: str, intensity: str, tmp_path: Path) -> None:
    path = write_volume(tmp_path / name)
    recipe = modality(8, 6, orientation="RAS", intensity=intensity)

    expected = monai_input(read_image(path), recipe)

    assert load_input(path, recipe).tobytes() == expected.tobytes()
    assert similar(load_input(path, recipe, mode="fast"), expected)


@pytest.mark.parametrize("name", FORMATS)
def test_torch_and_monai_are_not_imported_for_what_is_usual(name: str, tmp_path: Path) -> None:
    """A worker that prepares images must start quickly."""
    path = write_volume(tmp_path / name)
    lines = [
        "import sys, pathlib",
        "from vwmm.config.schema import Modality",
        "from vwmm.data.transforms.preprocess import load_input, recipe_key",
        f"path = pathlib.Path({str(path)!r})",
        f"fields = dict(dims=2, size=[8, 6], window_hu={None if name in PICTURES else [0, 900]}, orientation='LPS')",
        "[load_input(path, Modality(**fields), mode=mode) for mode in ('exact', 'fast')]",
        f"spaced = Modality(**fields, spacing_mm={None if name in WITHOUT_SPACING else [1, 1]})",
        "recipe_key(spaced, 'exact'), load_input(path, spaced, mode='fast')",
        "load_input(path, Modality(**fields, intensity='z_score'), mode='fast')",
        "assert not {'torch', 'monai'} & set(sys.modules), 'imported'",
    ]

    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", WITHOUT_SPACING)
def test_spacing_mm_without_a_voxel_size_in_the_file_is_refused(name: str, tmp_path: Path) -> None:
    path = write_volume(tmp_path / name)

    with pytest.raises(ImageError, match="has no voxel sizes, which spacing_mm needs"):
        load_input(path, modality(8, 6, spacing_mm=[1, 1]))


def test_spacing_of_a_volume_is_monais(tmp_path: Path) -> None:
    from monai.transforms import Compose, LoadImage, Orientation, Resize, ScaleIntensity, Spacing

    path = write_nifti(tmp_path / "a.nii.gz", numbers(12, 14, 6))
    expected = Compose(
        [
            LoadImage(image_only=True, ensure_channel_first=True),
            Orientation(axcodes="RAS", labels=LABELS),
            Spacing(pixdim=(0.5, 1.0, 2.0), mode="bilinear", padding_mode="border"),
            ScaleIntensity(),
            Resize((8, 6, 4)),
        ]
    )(path).numpy()

    found = load_input(path, modality(8, 6, 4, orientation="RAS", spacing_mm=[0.5, 1.0, 2.0]))

    assert found.tobytes() == np.ascontiguousarray(expected).tobytes()


def test_spacing_of_a_slice_uses_the_lengths_in_its_plane() -> None:
    """A plane of 1 x 3 mm pixels, at 1 mm: each column is drawn out to three."""
    plane = np.repeat(np.arange(6.0)[:, None], 4, axis=1) + np.arange(4.0)
    turned = np.diag([-1.0, 3.0, 7.0, 1.0])
    source = image_of(plane[..., None], turned)

    found = transform(source, modality(6, 10, spacing_mm=[1.0, 1.0], intensity="none"))

    expected = np.arange(6.0)[:, None] + np.linspace(0, 3, 10)
    np.testing.assert_allclose(found[0], expected, atol=1e-4)


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_a_spacing_that_would_fill_the_memory_is_refused(mode: Mode) -> None:
    metres_for_mm = np.diag([1000.0, 1000.0, 1000.0, 1.0])

    with pytest.raises(ImageError, match=r"voxels of 1e\+03 x 1e\+03 x 1e\+03 mm would become 6e\+12 at spacing_mm"):
        transform(image_of(numbers(20, 30, 10), metres_for_mm), modality(8, 6, 4, spacing_mm=[1, 1, 1]), mode=mode)


@pytest.mark.parametrize(("slice_", "index"), [("middle", 5), (0, 0), (9, 9)])
def test_a_slice_is_taken_along_the_last_axis(slice_: Any, index: int) -> None:
    voxels = numbers(20, 30, 10)

    found = transform(image_of(voxels), modality(8, 6, slice=slice_))

    np.testing.assert_allclose(found, resized(scaled(voxels[..., index]), 8, 6), rtol=1e-6)


def test_a_slice_is_counted_after_the_turn() -> None:
    """The first slice from below, of a file whose slices go down."""
    voxels = numbers(20, 30, 10)

    found = transform(image_of(voxels, np.diag([1, 1, -1.0, 1])), modality(20, 30, slice=0, orientation="RAS"))

    np.testing.assert_allclose(found[0], scaled(voxels[..., 9]), rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("slice_", ["middle", 0])
def test_a_file_with_one_slice_is_that_slice_whichever_way_it_lies(axis: int, slice_: Any, tmp_path: Path) -> None:
    """Axial, coronal and sagittal slices: after the turn, the single voxel is on another axis."""
    plane = numbers(8, 6)
    normal_last = {0: [1, 2, 0], 1: [0, 2, 1], 2: [0, 1, 2]}[axis]
    affine = np.eye(4)[:, [*normal_last, 3]]
    path = write_nifti(tmp_path / "a.nii", plane[..., None], affine)

    found = load_input(path, modality(8, 6, orientation="RAS", slice=slice_))

    np.testing.assert_allclose(found[0], scaled(plane), rtol=1e-6)


def test_a_slice_of_two_axes_is_turned_as_the_volume_of_that_slice_and_a_picture_is_not() -> None:
    plane, lps = numbers(8, 6), np.diag([-1.0, -1, 1, 1])
    recipe = modality(8, 6, orientation="RAS")

    found = transform(image_of(plane, lps), recipe)

    np.testing.assert_array_equal(found, transform(image_of(plane[..., None], lps), recipe))
    np.testing.assert_allclose(found[0], scaled(plane)[::-1, ::-1], rtol=1e-6)
    picture = replace(image_of(plane, lps), is_spatial=False)
    np.testing.assert_allclose(transform(picture, recipe)[0], scaled(plane), rtol=1e-6)


def test_the_bounds_of_the_window_become_0_and_1(tmp_path: Path) -> None:
    hu = np.array([[-2000, -150, 200, 550, 551], [3000, -151, -150, 25, 375]])
    path = write_dicom(tmp_path / "a.dcm", (hu + 2000).astype(np.uint16), intercept=-2000)

    found = load_input(path, modality(5, 2, window_hu=[-150, 550], orientation="LPS"))

    expected = [[0, 0, 0.5, 1, 1], [1, 0, 0, 0.25, 0.75]]
    np.testing.assert_allclose(found[0].T, expected, atol=1e-6)


def test_a_window_without_scaling_clips() -> None:
    hu = np.array([[-2000.0, -150, 200], [550, 551, 7]])

    found = transform(image_of(hu), modality(2, 3, window_hu=[-150, 550], intensity="none"))

    np.testing.assert_allclose(found[0], hu.clip(-150, 550), rtol=1e-6)


@pytest.mark.parametrize("window", [None, [-100, 900]])
def test_z_scores_have_mean_0_and_deviation_1_before_the_resize(window: list[float] | None) -> None:
    voxels = numbers(8, 6, 4)
    clipped = voxels.clip(-100, 900) if window else voxels

    found = transform(image_of(voxels), modality(8, 6, 4, intensity="z_score", window_hu=window))

    np.testing.assert_allclose(found[0], (clipped - clipped.mean()) / clipped.std(), atol=1e-5)


def test_without_intensity_the_values_stay() -> None:
    voxels = numbers(8, 6, 4)

    np.testing.assert_array_equal(transform(image_of(voxels), modality(8, 6, 4, intensity="none"))[0], voxels)


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_an_empty_slice_or_an_empty_window_is_no_image(mode: Mode) -> None:
    voxels = numbers(8, 6, 5) % 150 + 1
    voxels[..., 2] = 0

    with pytest.raises(ImageError, match=r"slice 2 of 5 is empty; choose another one by modalities\.NAME\.slice"):
        transform(image_of(voxels), modality(8, 6), mode=mode)
    with pytest.raises(ImageError, match=r"no voxel lies within window_hu=\[-150, 0\]: are these Hounsfield units"):
        transform(image_of(voxels), modality(8, 6, 5, window_hu=[-150, 0]), mode=mode)
    with pytest.raises(ImageError, match=r"no voxel lies within window_hu=\[2000, 3000\]"):
        transform(image_of(voxels), modality(8, 6, 5, window_hu=[2000, 3000], spacing_mm=[1, 2, 3]), mode=mode)


@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 1), (1, 8, 6)])
def test_a_single_slice_is_no_volume(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=r"expected a volume \(dims: 3\), found a single slice of"):
        check_dims(shape, modality(8, 6, 4))
    with pytest.raises(ImageError, match="expected a volume"):
        transform(image_of(numbers(*shape)), modality(8, 6, 4))


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_a_slice_that_does_not_exist_is_refused(mode: Mode) -> None:
    with pytest.raises(ImageError, match="slice 20 does not exist in 20 x 6 x 4 voxels"):
        check_dims((20, 6, 4), modality(8, 6, slice=20))
    check_dims((20, 6, 4), modality(8, 6, slice=19))  # the header alone does not say which axis is the last
    with pytest.raises(ImageError, match="slice 19 does not exist: 4 slices along the last axis"):
        transform(image_of(numbers(20, 6, 4)), modality(8, 6, slice=19), mode=mode)


def test_the_recipe_changes_with_every_field_that_changes_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    first = modality(32, 32)
    others = {
        "dims": modality(32, 32, 32),
        "size": modality(32, 33),
        "orientation": modality(32, 32, orientation="RAS"),
        "spacing_mm": modality(32, 32, spacing_mm=[1, 1]),
        "slice": modality(32, 32, slice=3),
        "series": modality(32, 32, series="T1"),
        "window_hu": modality(32, 32, window_hu=[0, 1]),
        "intensity": modality(32, 32, intensity="none"),
        "bias_correction": modality(32, 32, bias_correction=True),
        "foreground": modality(32, 32, bias_correction=True, foreground="nonzero"),
        "crop_foreground_mm": modality(32, 32, crop_foreground_mm=0),
        "clip_percentiles": modality(32, 32, clip_percentiles=[1, 99]),
        "fit": modality(32, 32, fit="crop_pad"),
    }
    same = {"column": modality(32, 32, column="x"), "folder": modality(32, 32, folder="x")}
    same["preset"] = modality(32, 32, preset="t1")

    assert {*others, *same} == set(Modality.model_fields)
    assert len({recipe_key(first), *map(recipe_key, others.values())}) == len(others) + 1
    assert {recipe_key(m) for m in same.values()} == {recipe_key(first)}
    assert recipe_key(first, "exact") == recipe_key(first) != recipe_key(first, "fast")
    assert recipe_key(modality(32, 32, foreground="nonzero")) == recipe_key(first), "nothing asks for it"
    before = recipe_key(first)
    monkeypatch.setattr(preprocess, "RECIPE_VERSION", 99)
    assert recipe_key(first) != before


def test_the_recipe_names_the_versions_whose_arithmetic_is_used() -> None:
    import monai

    torch_version, monai_version = torch.__version__.split("+")[0], monai.__version__

    def versions(**fields: Any) -> Any:
        return json.loads(recipe_key(modality(32, 32, **fields)))["versions"]

    assert versions() == {"recipe": preprocess.RECIPE_VERSION}
    assert versions(intensity="z_score") == {**versions(), "torch": torch_version}
    assert versions(bias_correction=True) == {**versions(), "SimpleITK": sitk.__version__}
    assert json.loads(recipe_key(modality(32, 32, 32)))["versions"] == versions(spacing_mm=[1, 1])
    assert versions(spacing_mm=[1, 1]) == {**versions(), "torch": torch_version, "monai": monai_version}


@pytest.mark.parametrize("name", ["a.nrrd", "a.dcm", "a.npy"])
def test_every_format_comes_to_the_same_input(name: str, tmp_path: Path) -> None:
    plane = numbers(8, 6).clip(0)
    if name == "a.npy":
        np.save(tmp_path / name, plane)
    elif name == "a.dcm":
        write_dicom(tmp_path / name, plane.T)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(plane.T), str(tmp_path / name))

    np.testing.assert_allclose(load_input(tmp_path / name, modality(8, 6))[0], scaled(plane), rtol=1e-6)


def test_nothing_is_changed_in_the_image_itself(tmp_path: Path) -> None:
    image = read_image(write_nifti(tmp_path / "a.nii", numbers(8, 6, 4), OBLIQUE))
    before = image.voxels.copy()

    transform(image, modality(8, 6, 4, window_hu=[0, 100], orientation="RAS"))

    np.testing.assert_array_equal(image.voxels, before)
