"""What a modality's recipe may ask for beyond the original one: foreground, percentiles, N4, crop, padding, slices."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.making import OBLIQUE, numbers, write_nifti
from vwmm.config.presets import PRESETS
from vwmm.config.schema import Modality
from vwmm.data.readers.image import Image, ImageError
from vwmm.data.readers.read import read_image
from vwmm.data.transforms.foreground import bias_corrected, otsu_threshold
from vwmm.data.transforms.geometry import orient_and_crop
from vwmm.data.transforms.preprocess import Mode, transform
from vwmm.data.transforms.provenance import view_of

SHAPE = (20, 24, 16)


def modality(*size: int, **fields: Any) -> Modality:
    return Modality.model_validate(
        {"dims": len(size), "size": size, "orientation": None, "intensity": "none", **fields}
    )


def image_of(voxels: np.ndarray, affine: np.ndarray | None = None) -> Image:
    return Image(voxels.astype(np.float32), np.eye(4) if affine is None else affine, "unknown")


@pytest.fixture
def head() -> np.ndarray:
    """(20, 24, 16) float32: a bright ellipsoid from voxel 5, 6 and 4 to 14, 19 and 9, in dark noise; a hole in it."""
    rng = np.random.default_rng(0)
    voxels = rng.uniform(0, 5, SHAPE)
    places = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    middle, radius = (9.5, 12.5, 6.5), (5.0, 7.0, 3.0)
    is_inside = np.sum([((p - m) / r) ** 2 for p, m, r in zip(places, middle, radius, strict=True)], axis=0) <= 1
    voxels[is_inside] = rng.uniform(60, 140, int(is_inside.sum()))
    voxels[9, 12, 6] = 0
    return voxels.astype(np.float32)


BOX = (slice(5, 15), slice(6, 20), slice(4, 10))


@pytest.fixture(autouse=True)
def box_is_right(head: np.ndarray) -> None:
    places = np.argwhere(head > 50)
    assert [(part.start, part.stop - 1) for part in BOX] == list(zip(places.min(0), places.max(0), strict=True))


@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize("percentiles", [(0.5, 99.5), (10, 60), (0, 100)])
def test_percentiles_clip_as_monais_do(percentiles: tuple[float, float], mode: Mode, head: np.ndarray) -> None:
    from monai.transforms import ScaleIntensityRangePercentiles

    expected = ScaleIntensityRangePercentiles(*percentiles, 0, 1, clip=True)(torch.from_numpy(head)[None]).numpy()
    found = transform(image_of(head), modality(*SHAPE, clip_percentiles=percentiles, intensity="min_max"), mode=mode)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (found.min(), found.max()) == (0, 1)
    clipped = transform(image_of(head), modality(*SHAPE, clip_percentiles=percentiles), mode=mode)
    np.testing.assert_allclose(clipped[0], head.clip(*np.percentile(head, percentiles)), atol=1e-3)


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_the_foreground_of_a_z_score_has_mean_0_and_deviation_1(mode: Mode, head: np.ndarray) -> None:
    for kind, mask in (("otsu", head > 50), (50, head > 50), ("nonzero", head != 0)):
        found = transform(image_of(head), modality(*SHAPE, intensity="z_score_foreground", foreground=kind), mode=mode)
        inside = found[0][mask].astype(np.float64)
        np.testing.assert_allclose([inside.mean(), inside.std()], [0, 1], atol=1e-5)
    from monai.transforms import NormalizeIntensity

    expected = NormalizeIntensity(nonzero=True)(torch.from_numpy(head)[None]).numpy()[0]
    np.testing.assert_allclose(found[0][head != 0], expected[head != 0], atol=1e-5)


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_a_window_or_percentiles_clip_before_the_z_score(mode: Mode, head: np.ndarray) -> None:
    for clip, low, high in (
        ({"window_hu": [70, 100]}, 70, 100),
        ({"clip_percentiles": [50, 99]}, *np.percentile(head, [50, 99])),
    ):
        fields = {"intensity": "z_score_foreground", "foreground": 50, **clip}
        found = transform(image_of(head), modality(*SHAPE, **fields), mode=mode)[0]
        inside = head.clip(low, high)[head > 50].astype(np.float64)
        np.testing.assert_allclose(found, (head.clip(low, high) - inside.mean()) / inside.std(), atol=1e-4)


def test_otsus_threshold_has_the_least_variance_within_the_two_groups(head: np.ndarray) -> None:
    counts, edges = np.histogram(head, 256)
    middles = (edges[1:] + edges[:-1]) / 2

    def within(last: int) -> float:
        groups = (slice(None, last + 1), slice(last + 1, None))
        return float(
            sum(
                (counts[g] * (middles[g] - np.average(middles[g], weights=counts[g])) ** 2).sum()
                for g in groups
                if counts[g].any()
            )
        )

    best = min(map(within, range(255)))
    threshold = otsu_threshold(head)
    assert within(int(np.searchsorted(edges, threshold)) - 1) == pytest.approx(best)
    assert 5 < threshold < 60
    assert otsu_threshold(head.transpose(2, 0, 1)[::-1]) == threshold, "whichever way it lies"


@pytest.mark.parametrize("margin_mm", [0, 1.5, 4, 99])
def test_the_box_around_the_foreground_is_monais(margin_mm: float, head: np.ndarray) -> None:
    from monai.transforms import CropForeground

    margin = [int(np.ceil(margin_mm / length)) for length in (1, 2, 3)]
    crop = CropForeground(select_fn=lambda x: x > 50, margin=margin, allow_smaller=True)
    expected = np.asarray(crop(torch.from_numpy(head)[None]))
    recipe = modality(*expected.shape[1:], crop_foreground_mm=margin_mm)
    found = transform(image_of(head, np.diag([1.0, 2.0, 3.0, 1.0])), recipe)
    assert found.tobytes() == np.ascontiguousarray(expected).tobytes()


def test_a_cropped_image_keeps_its_place_for_the_spacing(head: np.ndarray) -> None:
    """From the first voxel's centre to the last one's, 9 x 13 x 5 mm, in steps of half a millimetre."""
    recipe = modality(19, 27, 11, crop_foreground_mm=0, spacing_mm=[0.5, 0.5, 0.5], fit="crop_pad")
    found = transform(image_of(head), recipe)[0]
    np.testing.assert_allclose(found[::2, ::2, ::2], head[BOX], atol=1e-4)
    corner = orient_and_crop(image_of(head, OBLIQUE), recipe).affine @ [0, 0, 0, 1]
    np.testing.assert_allclose(corner, OBLIQUE @ [*(part.start for part in BOX), 1], atol=1e-9)


@pytest.mark.parametrize("size", [(20, 24, 16), (8, 9, 5), (31, 30, 17), (9, 40, 16), (7, 7)])
@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_cropping_and_padding_are_centred_as_monai_centres_them(size: tuple[int, ...], mode: Mode) -> None:
    from monai.transforms import ResizeWithPadOrCrop

    voxels = numbers(21, 24, 15)[..., 7] if len(size) == 2 else numbers(21, 24, 15)
    values = (voxels - voxels.min()) / np.float32(voxels.max() - voxels.min())
    expected = ResizeWithPadOrCrop(size)(torch.from_numpy(values.astype(np.float32))[None])
    found = transform(image_of(voxels), modality(*size, fit="crop_pad", intensity="min_max"), mode=mode)
    np.testing.assert_array_equal(found, np.asarray(expected))


def test_what_is_padded_is_as_dark_as_the_darkest_voxel(head: np.ndarray) -> None:
    found = transform(image_of(head), modality(30, 30, 30, fit="crop_pad", intensity="z_score"))
    assert found[0, 0, 0, 0] == found.min() < -0.1


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_a_slice_may_be_the_one_with_the_largest_foreground_or_the_maximum_of_all(mode: Mode, head: np.ndarray) -> None:
    counts = (head > 50).sum(axis=(0, 1))
    largest = transform(image_of(head), modality(*SHAPE[:2], slice="largest_foreground"), mode=mode)
    np.testing.assert_array_equal(largest[0], head[..., counts.argmax()])
    projected = transform(image_of(head), modality(*SHAPE[:2], slice="maximum_projection"), mode=mode)
    np.testing.assert_array_equal(projected[0], head.max(-1))


@pytest.mark.parametrize(
    "fields",
    [
        {"clip_percentiles": [1, 99], "intensity": "min_max"},
        {"clip_percentiles": [1, 99], "intensity": "z_score_foreground", "crop_foreground_mm": 3},
        {"intensity": "z_score_foreground", "spacing_mm": [2.1, 1.3, 2.2], "foreground": 50},
        {"intensity": "min_max", "spacing_mm": [2.1, 1.3, 2.2], "clip_percentiles": [2, 98], "crop_foreground_mm": 0},
        {"fit": "crop_pad", "spacing_mm": [2.1, 1.3, 2.2], "intensity": "z_score"},
        {"bias_correction": True, "intensity": "z_score_foreground", "orientation": "LPS"},
    ],
)
def test_the_fast_mode_is_as_good(fields: dict[str, Any], head: np.ndarray) -> None:
    source, recipe = image_of(head, np.diag([1.0, 1.5, 2.0, 1.0])), modality(8, 9, 7, **fields)
    exact, fast = transform(source, recipe), transform(source, recipe, mode="fast")
    assert np.abs(exact - fast).max() <= 1e-5 * max(np.ptp(exact), 1)


def test_n4_takes_the_coils_field_away_and_always_the_same(head: np.ndarray) -> None:
    places = np.meshgrid(*(np.linspace(-1, 1, n) for n in (48, 48, 24)), indexing="ij")
    is_inside = np.sum([p**2 for p in places], axis=0) < 0.8
    tissue = np.where(is_inside, np.where(places[0] > 0, 100.0, 160.0), 2.0)
    field = np.exp(0.25 * places[1] + 0.2 * places[2])
    source = image_of(tissue * field, np.diag([1.0, 1.0, 2.0, 1.0]))
    found = bias_corrected(source, "otsu").voxels

    def variation(voxels: np.ndarray) -> float:
        parts = [voxels[is_inside & (tissue == value)] for value in (100, 160)]
        return float(np.mean([part.std() / part.mean() for part in parts]))

    assert variation(source.voxels) > 0.12
    assert variation(found) < 0.02
    assert bias_corrected(source, "otsu").voxels.tobytes() == found.tobytes()
    with pytest.raises(ImageError, match="values below 0 are no MRI magnitudes"):
        bias_corrected(image_of(head - 3), "otsu")


@pytest.mark.parametrize("shape", [(40, 40), (40, 40, 1), (1, 40, 40), (40, 2, 40), (40, 40, 3), (5, 6, 7), (4, 4)])
def test_n4_takes_thin_images_as_well(shape: tuple[int, ...]) -> None:
    field = np.exp(0.5 * np.linspace(-1, 1, shape[-1]) + np.zeros(shape))
    found = bias_corrected(image_of(field * np.where(numbers(*shape) % 7 > 1, 100.0, 1.0)), "otsu").voxels
    assert found.shape == shape
    assert np.isfinite(found).all()


@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop_foreground_mm": 0, "foreground": 500}, "no voxel is foreground"),
        ({"intensity": "z_score_foreground", "foreground": 500}, "no voxel is foreground"),
        ({"clip_percentiles": [0, 20]}, r"the percentiles 0 and 20 have the same value \(0\)"),
        ({"crop_foreground_mm": 0, "foreground": "nonzero"}, "every voxel of the foreground's box has the same value"),
    ],
)
def test_an_image_without_what_is_asked_for_is_named(fields: dict[str, Any], message: str, mode: Mode) -> None:
    voxels = np.zeros((8, 8, 8))
    voxels[2:6, 2:6, 2:6] = 7
    with pytest.raises(ImageError, match=message):
        transform(image_of(voxels), modality(8, 8, 8, **fields), mode=mode)


@pytest.mark.parametrize("slice_", ["largest_foreground", "maximum_projection", 9])
@pytest.mark.parametrize("codes", ["RAS", "LAS", "RPS", "RAI", "SRA"])
def test_the_picture_shows_what_the_network_gets(slice_: Any, codes: str, head: np.ndarray, tmp_path: Path) -> None:
    """Without a resize the input has the picture's voxels, turned as the codes say."""
    path = write_nifti(tmp_path / "a.nii", head, np.diag([1.0, 2.0, 3.0, 1.0]))
    of_axis = dict(zip("RAS", zip(SHAPE, (1.0, 2.0, 3.0), strict=True), strict=True))
    stored = [code if code in of_axis else _opposite(code) for code in codes[:2]]
    image, recipe = read_image(path), modality(*(of_axis[code][0] for code in stored), orientation=codes, slice=slice_)
    view, found = view_of(image, recipe), transform(image, recipe)[0]
    assert (view.slice_index is None) == (slice_ == "maximum_projection")
    assert view.orientation == "".join(sorted(stored, key="RAS".index))
    turned = view.voxels if view.orientation == "".join(stored) else view.voxels.T
    flips = tuple(axis for axis, code in enumerate(codes[:2]) if code not in of_axis)
    np.testing.assert_array_equal(found, np.flip(turned, flips))
    assert view.input_spacing_mm == pytest.approx([of_axis[code][1] for code in stored])


def _opposite(code: str) -> str:
    return "LRPAIS"["RLAPSI".index(code)]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("dims", [2, 3])
def test_every_preset_transforms_an_image(name: str, dims: int, head: np.ndarray) -> None:
    from vwmm.config.loading import load_config

    size = [32, 30, 31][:dims]
    config = load_config([], [f"modalities.x={{dims: {dims}, size: {size}, preset: {name}}}"])
    found = transform(image_of(head), config.modalities["x"])
    assert found.shape == (1, *size)
    assert np.isfinite(found).all()
    assert np.ptp(found) > 0.1
