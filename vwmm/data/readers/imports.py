"""Imports the image libraries before threads use them.

They are imported where they are used, since a start should not wait for a library that it does not need. But two
threads that import one library at once may see it half made: so import before starting threads.
"""

import importlib
from collections.abc import Iterable
from pathlib import Path

from vwmm.config.schema import Modality
from vwmm.data.readers.image import ImageError
from vwmm.data.readers.read import FORMATS, format_of
from vwmm.system.monai_import import import_monai
from vwmm.system.postponed import hidden
from vwmm.system.start import importing


def import_readers(paths: Iterable[Path]) -> None:
    """What reading these images needs; a path that no reader takes needs nothing."""
    formats = set[str]()
    for path in paths:
        try:
            formats.add(format_of(path))
        except (ImageError, OSError):
            continue
    import_formats(sorted(formats))


def import_formats(kinds: Iterable[str]) -> None:
    """What reading images of these formats of `FORMATS` needs."""
    with importing(), hidden(["requests"]):  # with which pydicom downloads examples, and nothing else
        for kind in kinds:
            for name in FORMATS[kind].libraries:
                importlib.import_module(name)


def import_transforms(modalities: Iterable[Modality], *, mode: str) -> None:
    """What the fixed transforms of these modalities need."""
    for modality in modalities:
        importlib.import_module("nibabel.orientations")
        if modality.needs_foreground:
            importlib.import_module("SimpleITK")
        if modality.spacing_mm is not None and (mode == "exact" or modality.fit == "crop_pad"):
            import_monai()
        if modality.spacing_mm is not None or modality.intensity == "z_score":
            importlib.import_module("torch")
