"""The few kilobytes that `vwmm check` keeps of an image."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vwmm.config.schema import Modality
from vwmm.data.checks.dicom_identifiers import Header, has_date, read_header
from vwmm.data.checks.fingerprint import bright_border_of, levels_of, miniature_of, voxel_hash
from vwmm.data.readers.image import Image, ImageError
from vwmm.data.readers.read import format_of, read_image
from vwmm.data.transforms.geometry import check_dims
from vwmm.data.transforms.hounsfield import POSSIBLE, HounsfieldSigns, hounsfield_signs
from vwmm.data.transforms.provenance import view_of
from vwmm.system.fault_injection import FAULTS


@dataclass(frozen=True)
class ImageJob:
    """One image to read."""

    path: Path
    """The file, or the folder of a series."""
    modality: Modality
    """What its column holds."""
    case: str = ""
    """The case's name in the CSV."""
    patient: str = ""
    """The patient's name in the CSV."""
    shared: frozenset[str] = frozenset()
    """Words that the names of most patients have: `person_names.shared_words`."""
    has_picture: bool = False
    """Whether a thumbnail is wanted."""


@dataclass(frozen=True)
class ImageFacts:
    """The facts of a readable image."""

    content: str
    """`contents.voxel_hash`."""
    miniature: np.ndarray = field(repr=False)
    """`contents.miniature_of`."""
    shape: tuple[int, ...]
    """As stored, without single axes at the end."""
    spacing_mm: tuple[float, ...] | None
    """Voxel size; None: unknown."""
    orientation: str | None
    """Where its axes point; None: unknown."""
    unit: str
    """`HU` or `unknown`."""
    levels: tuple[float, float, float, float, float]
    """`contents.levels_of`."""
    day: int
    """Days since 1970 (UTC) when its file was last changed."""
    format: str
    """As `readers.format_of`."""
    header: Header
    """Values of the DICOM header."""
    hounsfield: HounsfieldSigns = POSSIBLE
    """Its values as Hounsfield units."""
    bright_border: float = 0.0
    """`contents.bright_border_of`."""
    doubts: tuple[str, ...] = ()
    """As of `Image`."""
    plane: np.ndarray | None = field(default=None, repr=False)
    """(X, Y) of a slice, or (X, Y, Z), of float32 as stored, for a thumbnail; None: none is wanted."""
    plane_spacing_mm: tuple[float, ...] | None = None
    """Voxel size of `plane`."""


@dataclass(frozen=True)
class Unusable:
    """Why an image cannot be used."""

    kind: str
    """A kind of finding."""
    reason: str
    """In words."""


def facts_of(job: ImageJob) -> "ImageFacts | Unusable":
    """Reads an image and keeps what the check needs of it; an image with any error is `Unusable`."""
    FAULTS.at("read", case=job.case)
    try:
        image = read_image(job.path, series=job.modality.series)
        check_dims(image.voxels.shape, job.modality)
        view = view_of(image, job.modality)
    except ImageError as error:
        return Unusable(error.kind, str(error))
    except Exception as error:  # any library, any damage: the image is to be named
        return Unusable("unreadable", f"cannot be read: {error.__class__.__name__}")
    return ImageFacts(
        content=voxel_hash(image.voxels),
        miniature=miniature_of(image.voxels),
        shape=_without_single(image),
        spacing_mm=None if view.spacing_mm is None else tuple(image.spacing_mm),
        orientation=view.orientation,
        unit=image.unit,
        levels=levels_of(image.voxels),
        day=_day(job.path),
        format=format_of(job.path),
        header=read_header(job.path, known_as=(job.case, job.patient), series=job.modality.series, shared=job.shared),
        hounsfield=hounsfield_signs(image.voxels, image.bounds),
        bright_border=bright_border_of(image.voxels),
        doubts=image.doubts,
        plane=view.voxels if job.has_picture else None,
        plane_spacing_mm=view.spacing_mm,
    )


def names_with_dates(paths: list[Path]) -> int:
    """How many of the files have a date in their name."""
    return sum(has_date(path.name) for path in paths)


def _without_single(image: Image) -> tuple[int, ...]:
    shape = image.voxels.shape
    return tuple(int(n) for n in (shape[:2] if len(shape) == 3 and shape[2] == 1 else shape))


def _day(path: Path) -> int:
    """Of a series, the latest of its files."""
    files = [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path]
    latest = max((os.stat(file).st_mtime for file in files), default=0.0)
    return int(latest // 86400)
