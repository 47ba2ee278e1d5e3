"""Geometry before and after preprocessing, for pictures."""

from dataclasses import dataclass

import numpy as np

from vwmm.config.schema import Modality
from vwmm.data.readers.image import Image
from vwmm.data.transforms.geometry import orient_and_crop, with_slice_axis
from vwmm.data.transforms.orientation import axis_codes, orientation_of


@dataclass(frozen=True)
class View:
    """What an input of the network was made from."""

    voxels: np.ndarray
    """(X, Y, Z) as stored; of a 2D modality (X, Y), the slice that is used."""
    spacing_mm: tuple[float, ...] | None
    """Voxel size of `voxels`; None: unknown."""
    orientation: str | None
    """Where each axis of `voxels` points, such as `RAS`; None: unknown."""
    input_spacing_mm: tuple[float, ...] | None
    """Voxel size of the network's input, to within a voxel at its edges."""
    input_orientation: str | None
    """Where each axis of the network's input points."""
    slice_index: int | None
    """The slice that is used, from 0, of the turned volume; None where there was nothing to choose."""


def view_of(image: Image, modality: Modality) -> View:
    """The view of an image that `transform` can make an input of."""
    from nibabel.orientations import axcodes2ornt, ornt_transform

    at, image = orient_and_crop(image, modality), with_slice_axis(image, modality)
    voxels, spacing, index = image.voxels, np.array(image.spacing_mm), None
    codes = input_codes = axis_codes(image.affine)[: voxels.ndim]
    order = np.arange(voxels.ndim)  # the stored axis that becomes each axis of the input
    if voxels.ndim == 3:
        input_codes = modality.orientation or codes
        turn = ornt_transform(orientation_of(image.affine), axcodes2ornt(input_codes))
        order = turn[:, 0].argsort()
        if (axis := at.slice_axis) is not None:
            stored, depth, index = int(order[axis]), voxels.shape[order[axis]], at.slice_index
            if index is None:  # one slice, or the maximum of all
                voxels = voxels.max(axis=stored)
            else:
                voxels = voxels.take(index if turn[stored, 1] > 0 else depth - 1 - index, axis=stored)
            spacing = np.delete(spacing, stored)
            codes, input_codes = _without(codes, stored), _without(input_codes, axis)
            order = np.delete(order, axis)
            order -= order > stored
    input_spacing = spacing[order] * at.view.shape / modality.size
    if modality.fit == "crop_pad":
        input_spacing = np.array(modality.spacing_mm or spacing[order])
    has_orientation, has_spacing = image.has_orientation, image.has_spacing
    return View(
        voxels=voxels,
        spacing_mm=tuple(spacing.tolist()) if has_spacing else None,
        orientation=codes if has_orientation else None,
        input_spacing_mm=tuple(input_spacing.tolist()) if has_spacing else None,
        input_orientation=input_codes if has_orientation else None,
        slice_index=index,
    )


def _without(codes: str, axis: int) -> str:
    return codes[:axis] + codes[axis + 1 :]
