"""The affine of a NIfTI header, and contradictions in it.

The sform counts before the qform, as nibabel and SimpleITK have it. Two sizes of a voxel, in the sform and in pixdim,
cannot both be right: an sform without scale gives way, as ITK's does.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from vwmm.data.readers.image import complete_affine

# Sizes that differ by more are two sizes; a rounded header differs by less.
_SAME_SIZE = 0.01
# Cosine between directions that are the same; 8 degrees apart are not.
_SAME_DIRECTION = 0.99
_SCALED = "the sform has no scale, so pixdim was taken"
# No voxel of a patient is larger.
_LARGEST_MM = 50.0
# Codes of xyzt_units: metres and micrometres; all others are millimetres.
_MM = {1: 1000.0, 3: 0.001}


@dataclass(frozen=True)
class Geometry:
    """The geometry in a header."""

    affine: np.ndarray
    """(4, 4) float64, voxel indices to RAS millimetres."""
    has_spacing: bool
    """Whether it has voxel sizes."""
    has_orientation: bool
    """Whether it has axis directions."""
    doubts: tuple[str, ...]
    """As of `Image`."""


def geometry_of(header: Any, stored_sizes: np.ndarray, dims: int) -> Geometry:
    """header: as nibabel repairs it. stored_sizes: (3,) pixdim as the file has it. dims: axes of the image."""
    factor = _MM.get(int(header["xyzt_units"]) % 8, 1.0)
    scale = np.diag([factor, factor, factor, 1.0])
    used = min(dims, 3)
    sizes = np.abs(np.asarray(stored_sizes, dtype=np.float64)[:used])
    has_sizes = bool((np.isfinite(sizes) & (sizes > 0)).all())
    has_sform, has_qform = header["sform_code"] > 0, header["qform_code"] > 0
    affine, doubts = np.asarray(header.get_best_affine(), dtype=np.float64), list[str]()
    if has_sform:
        affine, doubts = _of_sform(header, affine, sizes if has_sizes else None, used)
    elif not has_qform:
        doubts.append(
            "neither sform nor qform is set, so the file has no axis directions: taken as left, anterior, "
            "superior, as nibabel does (SimpleITK takes left, posterior, superior)"
        )
    is_qform_taken = bool(doubts) and doubts[0].endswith(_SCALED) and has_qform
    if has_sform and has_qform:
        doubts += _two_directions(header, used, taken="qform" if is_qform_taken else "sform")
    if factor != 1 and (np.linalg.norm((scale @ affine)[:3, :used], axis=0) > _LARGEST_MM).any():
        doubts.append(f"the unit of length ({'metres' if factor > 1 else 'micrometres'}) makes voxels of centimetres")
    return Geometry(
        complete_affine(scale @ affine, dims), bool(has_sform or has_sizes), bool(has_sform or has_qform), tuple(doubts)
    )


def _of_sform(header: Any, affine: np.ndarray, sizes: np.ndarray | None, dims: int) -> tuple[np.ndarray, list[str]]:
    """The affine that counts, and what is doubtful about its scale. sizes: (dims,) of pixdim; None: unknown."""
    lengths = np.linalg.norm(affine[:3, :dims], axis=0)
    if sizes is None or not (lengths > 0).all() or (np.abs(lengths / sizes - 1) <= _SAME_SIZE).all():
        return affine, []
    found = f"the sform has voxels of {_listed(lengths)}, pixdim of {_listed(sizes)}"
    if (np.abs(lengths - 1) > 1e-3).any():
        return affine, [f"{found}: the sform was taken"]
    scaled = np.asarray(header.get_qform(), dtype=np.float64) if header["qform_code"] > 0 else affine.copy()
    if header["qform_code"] <= 0:
        scaled[:3, :dims] *= sizes
    return scaled, [f"{found}: {_SCALED}"]


def _two_directions(header: Any, dims: int, *, taken: str) -> list[str]:
    """Whether sform and qform point elsewhere: they may for other spaces, but never mirror each other."""
    from nibabel.orientations import aff2axcodes

    try:
        both = header.get_sform(), header.get_qform()
    except ValueError:  # a quaternion that is none
        return ["the qform is damaged: the sform was taken"]
    forms = [complete_affine(np.asarray(form, dtype=np.float64), dims) for form in both]
    lengths = [np.linalg.norm(form[:3, :3], axis=0) for form in forms]
    if not all(np.isfinite(form).all() for form in forms) or not all((of > 0).all() for of in lengths):
        return []
    sform, qform = (form[:3, :3] / of for form, of in zip(forms, lengths, strict=True))
    is_mirrored = np.linalg.det(sform) * np.linalg.det(qform) < 0 and dims == 3
    is_elsewhere = ((sform * qform).sum(axis=0)[:dims] < _SAME_DIRECTION).any()
    if not is_mirrored and not (is_elsewhere and header["sform_code"] == header["qform_code"]):
        return []
    codes = ["".join(map(str, aff2axcodes(form)))[:dims] for form in forms]
    how = "mirror each other" if is_mirrored else "point elsewhere"
    return [f"sform ({codes[0]}) and qform ({codes[1]}) {how}: the {taken} was taken"]


def _listed(sizes: np.ndarray) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes)
