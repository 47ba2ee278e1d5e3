"""Caching never changes a value: from the file through the cache to the batch, in every format and recipe."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.making import make_case, make_store, numbers, write_nifti
from tests.data.monai_recipe import monai_input
from tests.data.transforms.test_preprocess import FORMATS, PICTURES, RECIPES, WITHOUT_SPACING, modality, write_volume
from vwmm.config.schema import Modality
from vwmm.data.loading.dataset import CaseDataset
from vwmm.data.loading.loader import load_batches
from vwmm.data.readers.read import read_image

SPACED: dict[str, dict[str, Any]] = {
    "spacing": {"size": (9, 8, 7), "orientation": "RAS", "spacing_mm": [0.9, 0.8, 1.5]},
    "spacing of a slice": {"size": (9, 8), "orientation": "LPS", "spacing_mm": [0.9, 0.8], "intensity": "z_score"},
}


def cached(path: Path, recipe: Modality, folder: Path) -> np.ndarray:
    """The image as a batch has it, found in the cache by a second start."""
    make_store(folder).entry(path, make_store(folder).recipe(recipe))
    store = make_store(folder)
    entry = store.entry(path, store.recipe(recipe))
    assert not entry.was_built
    dataset = CaseDataset([make_case("a", images={"ct": path})], {"ct": recipe}, {("a", "ct"): entry}, [0], store)
    (batch,) = list(load_batches(dataset, [[0]]))
    return batch.images["ct"].numpy()


@pytest.mark.parametrize("name", [*RECIPES, *SPACED])
def test_every_recipe_gives_the_uncached_bits(name: str, tmp_path: Path) -> None:
    fields = {**RECIPES, **SPACED}[name]
    path, recipe = write_nifti(tmp_path / "a.nii.gz", numbers(20, 30, 10)), modality(*fields["size"], **fields)

    assert cached(path, recipe, tmp_path / "cache")[0].tobytes() == monai_input(read_image(path), recipe).tobytes()


SLICES = ("a.dcm", "a.png", "a.tif")
PAIRS = [
    (file, name)
    for file in FORMATS
    for name, fields in {**RECIPES, **SPACED}.items()
    if (len(fields["size"]) == 2 or file not in SLICES)
    and ("spacing_mm" not in fields or file not in WITHOUT_SPACING)
    and ("window_hu" not in fields or file not in PICTURES)
]


@pytest.mark.parametrize(("file", "name"), PAIRS)
def test_every_format_gives_the_uncached_bits(file: str, name: str, tmp_path: Path) -> None:
    path, fields = write_volume(tmp_path / file), {**RECIPES, **SPACED}[name]
    recipe = modality(*fields["size"], **fields)
    image = read_image(path)

    assert cached(path, recipe, tmp_path / "cache")[0].tobytes() == monai_input(image, recipe).tobytes()
