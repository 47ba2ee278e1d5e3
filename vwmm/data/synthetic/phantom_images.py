"""Draws the three images of a synthetic case.

A sketch of one side of the neck around the carotid artery. Each modality is drawn from its own random generator and
from its own finding, and from nothing else that depends on the label: what an image can tell is fixed by construction.

The scene's axes are x (patient right), y (anterior), z (superior), in mm from the middle of the field of view.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float32]
Vector = tuple[float, float]
Size = Literal["small", "full"]

VOXELS_3D: dict[Size, tuple[int, int, int]] = {"small": (64, 64, 32), "full": (256, 256, 96)}
VOXELS_2D: dict[Size, tuple[int, int, int]] = {"small": (64, 64, 1), "full": (512, 512, 1)}
MR_UNIT = 1000  # stored value of the brightest tissue, about; int16 leaves room above it
EDGE_MM = 0.35  # least width of an edge: what the scanner's point spread leaves of it at any voxel size

# Brightness per tissue; MR in units of the brightest, CT in HU. `subcutaneous` is the fat below the skin.
VW_MRI = {"air": 0.02, "skin": 0.35, "subcutaneous": 0.26, "fat": 0.20, "muscle": 0.38, "gland": 0.45, "vein": 0.07,
          "wall": 0.90, "lumen": 0.04}  # black blood, fat suppressed  # fmt: skip
MRI = {"air": 0.02, "skin": 0.40, "subcutaneous": 0.58, "fat": 0.50, "muscle": 0.30, "gland": 0.38, "vein": 0.13,
       "wall": 0.34, "lumen": 0.06, "spot": 0.66, "deposit": 1.0}  # T1, flow voids, fat bright  # fmt: skip
CT = {"air": -1000.0, "skin": 30.0, "subcutaneous": -105.0, "fat": -80.0, "muscle": 55.0, "gland": 100.0,
      "vein": 160.0, "wall": 40.0, "lumen": 245.0}  # CT angiography  # fmt: skip

# (tissue, (lateral, anterior) of its middle from the carotid's, semi-axes, turn in degrees), painted in this order.
ANATOMY: tuple[tuple[str, Vector, Vector, float], ...] = (
    ("muscle", (11.8, 3.0), (4.0, 11.5), 22.0),  # sternocleidomastoid
    ("muscle", (1.0, -16.5), (11.5, 6.0), 12.0),  # scalene muscles
    ("muscle", (7.0, -27.0), (8.0, 4.5), -15.0),  # levator scapulae
    ("muscle", (-15.0, -11.0), (6.5, 5.5), 0.0),  # longus colli
    ("muscle", (-7.0, 16.5), (10.0, 3.0), -18.0),  # strap muscles
    ("gland", (-12.0, 3.5), (4.2, 8.0), 8.0),  # thyroid lobe
    ("muscle", (-26.0, 6.0), (11.0, 12.0), 0.0),  # wall of the trachea
    ("air", (-26.0, 6.0), (8.8, 9.8), 0.0),  # trachea
    ("vein", (9.0, -7.5), (4.8, 3.6), -35.0),  # internal jugular vein
)


@dataclass(frozen=True)
class Site:
    """What differs mildly between the scanners of two hospitals."""

    name: str
    """Value of the `site` column."""
    scanner: str
    """Manufacturer in the DICOM header; invented."""
    field_of_view: float
    """Factor on the field of view, and with it on the voxel size."""
    slice_thickness: float
    """Factor on the slice thickness."""
    noise: float
    """Factor on the noise."""


@dataclass(frozen=True)
class Vessel:
    """An artery: a tilting tube with a wall ring that may bulge on one side."""

    middle: Vector
    """(x, y) of the lumen's axis in the middle slice, mm."""
    radius_mm: float
    """Radius of the lumen."""
    wall_mm: float
    """Thickness of the healthy wall."""
    bulge_mm: float
    """Thickness that is added where the bulge is highest."""
    angle: float
    """Direction of the bulge, radians."""
    sharpness: float
    """How narrow the bulge is around the vessel (kappa of a von Mises lobe)."""
    reach_mm: float
    """Half the length of the bulge along the vessel."""
    height_mm: float
    """z of the bulge's middle."""


class Canvas:
    """An image being painted; keeps its voxels and where they are."""

    def __init__(self, shape: tuple[int, int, int], zooms_mm: tuple[float, float, float], tilt: Vector) -> None:
        self.zooms_mm = zooms_mm
        self.image: Array = np.zeros(shape, np.float32)
        axes = [
            (np.arange(n, dtype=np.float32) - (n - 1) / 2) * np.float32(z) for n, z in zip(shape, zooms_mm, strict=True)
        ]
        self.x, self.y, self.z = axes
        self.shift_x, self.shift_y = tilt[0] * self.z, tilt[1] * self.z
        self.edge_mm = max(EDGE_MM, zooms_mm[0])

    def around(self, middle: Vector, reach_mm: float) -> tuple[Array, Array, Array]:
        """The part of the image within a square, and (x, y) from its middle in each slice, mm: (X, 1, Z), (1, Y, Z)."""
        spans = []
        for axis, centre, shift in ((self.x, middle[0], self.shift_x), (self.y, middle[1], self.shift_y)):
            reach = reach_mm + self.edge_mm + float(np.abs(shift).max())
            start, stop = np.searchsorted(axis, (centre - reach, centre + reach))
            spans.append(slice(int(start), int(stop)))
        dx = self.x[spans[0], None, None] - np.float32(middle[0]) - self.shift_x
        dy = self.y[None, spans[1], None] - np.float32(middle[1]) - self.shift_y
        return self.image[spans[0], spans[1]], dx.astype(np.float32), dy.astype(np.float32)

    def blend(self, part: Array, depth_mm: Array, value: float) -> None:
        """Paints where `depth_mm` is positive (inside), with a soft edge; `part` is a view of the image."""
        part += np.clip(0.5 + depth_mm / np.float32(self.edge_mm), 0, 1) * (np.float32(value) - part)

    def ellipse(self, middle: Vector, semi_axes: Vector, angle: float, value: float) -> None:
        """Paints an elliptic column; lengths in mm, `angle` in radians."""
        part, dx, dy = self.around(middle, max(semi_axes))
        cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        u, v = (dx * cos + dy * sin) / semi_axes[0], (dy * cos - dx * sin) / semi_axes[1]
        # Exact on the outline and within a few percent of the distance near it, which is all that a soft edge needs.
        self.blend(part, (1 - np.sqrt(u * u + v * v)) * np.float32(min(semi_axes)), value)

    def smooth_field(self, rng: Generator, wavelength_mm: float) -> Array:
        """A random field that changes slowly, about -1 to 1: a sum of plane-wise products of cosines."""
        waves = []
        for axis in (self.x, self.y, self.z):
            frequency = rng.uniform(-1, 1, (5, 1)) * 2 * np.pi / wavelength_mm
            waves.append(np.cos(frequency * axis + rng.uniform(0, 2 * np.pi, (5, 1))).astype(np.float32))
        field: Array = np.einsum("kx,ky,kz->xyz", *waves, optimize=False) / np.float32(2)
        return field


def paint_vessel(canvas: Canvas, vessel: Vessel, wall: float, lumen: float) -> None:
    """Paints the wall ring, then the lumen; a bulge grows outwards and, less, into the lumen."""
    part, dx, dy = canvas.around(vessel.middle, vessel.radius_mm + vessel.wall_mm + vessel.bulge_mm)
    radius = np.sqrt(dx * dx + dy * dy) + np.float32(1e-3)
    along = (dx * math.cos(vessel.angle) + dy * math.sin(vessel.angle)).astype(np.float32) / radius
    profile = np.clip(1.5 * (1 - np.abs(canvas.z - vessel.height_mm) / vessel.reach_mm), 0, 1).astype(np.float32)
    bulge = np.exp(np.float32(vessel.sharpness) * (along - 1)) * profile * np.float32(vessel.bulge_mm)
    inner = np.float32(vessel.radius_mm) - np.float32(0.3) * bulge
    canvas.blend(part, inner + np.float32(vessel.wall_mm) + bulge - radius, wall)
    canvas.blend(part, inner - radius, lumen)


def paint_deposit(
    rng: Generator, canvas: Canvas, vessel: Vessel, *, half_width: Vector, thickness_mm: Vector, value: float
) -> None:
    """Paints a crescent in the wall, against the lumen; half width (radians) and thickness are drawn from ranges."""
    angle, width, thickness = rng.uniform(0, 2 * np.pi), rng.uniform(*half_width), rng.uniform(*thickness_mm)
    part, dx, dy = canvas.around(vessel.middle, vessel.radius_mm + 2 * thickness)
    radius = np.sqrt(dx * dx + dy * dy) + np.float32(1e-3)
    along = (dx * math.cos(angle) + dy * math.sin(angle)).astype(np.float32) / radius
    turn = np.arccos(np.clip(along, -1, 1)) / np.float32(width)
    taper = np.sqrt(np.clip(1 - turn * turn, 0, 1)) * np.float32(thickness / 2)
    middle = np.float32(vessel.radius_mm + thickness / 2)
    canvas.blend(part, np.where(turn < 1, taper - np.abs(radius - middle), np.float32(-1)), value)


def paint_neck(rng: Generator, canvas: Canvas, middle: Vector, side: int, tissue: dict[str, float]) -> None:
    """Paints all but the carotid artery itself: skin, fat, muscles, thyroid, trachea and jugular vein."""
    canvas.image[:] = tissue["air"]
    body = (middle[0] - side * rng.uniform(29, 31), middle[1] - rng.uniform(9, 12))
    across, deep, rim = rng.uniform(51, 55), rng.uniform(43, 47), rng.uniform(4, 6)
    for name, inset in (("skin", 0.0), ("subcutaneous", 1.5), ("muscle", 1.5 + rim), ("fat", 2.7 + rim)):
        canvas.ellipse(body, (across - inset, deep - inset), 0.0, tissue[name])
    for name, (lateral, anterior), semi_axes, degrees in ANATOMY:
        moved_x, moved_y, turned, *grown = rng.uniform(-1, 1, 5)
        centre = (middle[0] + side * (lateral + moved_x), middle[1] + anterior + moved_y)
        axes = (semi_axes[0] * (1 + 0.1 * grown[0]), semi_axes[1] * (1 + 0.1 * grown[1]))
        canvas.ellipse(centre, axes, side * math.radians(degrees + 8 * turned), tissue[name])


def draw_vw_mri(rng: Generator, site: Site, size: Size, side: int, wall_thick: bool) -> Canvas:
    """A black-blood volume; with `wall_thick`, an eccentric plaque over a good part of the slices."""
    canvas = _canvas(rng, site, VOXELS_3D[size], field_mm=32.0, depth_mm=48.0)
    thickening_mm = rng.uniform(2.6, 3.8) if wall_thick else rng.uniform(0.0, 0.3)
    vessel = _vessel(rng, canvas, wall_mm=(0.9, 1.2), bulge_mm=thickening_mm, reach_mm=rng.uniform(13, 20))
    paint_neck(rng, canvas, vessel.middle, side, VW_MRI)
    paint_vessel(canvas, vessel, VW_MRI["wall"], VW_MRI["lumen"])
    return _as_mr(rng, canvas, noise=0.035 * site.noise)


def draw_mri(rng: Generator, site: Site, size: Size, side: int, haemorrhage: bool) -> Canvas:
    """A T1 slice; with `haemorrhage`, a crescent in the wall brighter than any other tissue."""
    canvas = _canvas(rng, site, VOXELS_2D[size], field_mm=44.0, depth_mm=3.0)
    vessel = _vessel(rng, canvas, wall_mm=(1.5, 2.5), bulge_mm=rng.uniform(0, 1.8))
    paint_neck(rng, canvas, vessel.middle, side, MRI)
    # A lobule of fat beside the vessel, in every image: what is only fairly bright, or not in the wall, is no finding.
    direction, away = rng.uniform(0.3, 1.2) * np.pi, rng.uniform(8.5, 11)  # to the front or the middle: no vein there
    middle = (vessel.middle[0] + side * away * math.cos(direction), vessel.middle[1] + away * math.sin(direction))
    canvas.ellipse(middle, (rng.uniform(1.6, 2.2), rng.uniform(1.1, 1.6)), rng.uniform(0, np.pi), MRI["spot"])
    paint_vessel(canvas, vessel, MRI["wall"], MRI["lumen"])
    if haemorrhage:
        paint_deposit(rng, canvas, vessel, half_width=(0.7, 1.1), thickness_mm=(2.2, 3.0), value=MRI["deposit"])
    return _as_mr(rng, canvas, noise=0.025 * site.noise)


def draw_ct(rng: Generator, site: Site, size: Size, side: int, calcification: bool) -> Canvas:
    """A CT angiography slice in HU; with `calcification`, a deposit of 550 to 1050 HU, else nothing above 300 HU."""
    canvas = _canvas(rng, site, VOXELS_2D[size], field_mm=56.0, depth_mm=1.0)
    vessel = _vessel(rng, canvas, wall_mm=(1.0, 2.5), bulge_mm=rng.uniform(0, 1.8))
    paint_neck(rng, canvas, vessel.middle, side, CT)
    paint_vessel(canvas, vessel, CT["wall"], CT["lumen"] + rng.uniform(-12, 8))
    if calcification:
        value = rng.uniform(600, 1000)
        paint_deposit(rng, canvas, vessel, half_width=(0.5, 0.9), thickness_mm=(2.2, 2.8), value=value)
    inside = np.clip((canvas.image + 1000) / 900, 0, 1)  # air has no texture
    canvas.image += inside * 8 * canvas.smooth_field(rng, 12.0)
    canvas.image += np.float32(7 * site.noise) * rng.standard_normal(canvas.image.shape, np.float32)
    return canvas


DRAW = {"vw_mri": draw_vw_mri, "mri": draw_mri, "ct": draw_ct}


def _canvas(rng: Generator, site: Site, voxels: tuple[int, int, int], *, field_mm: float, depth_mm: float) -> Canvas:
    in_plane = round(field_mm * site.field_of_view / voxels[0], 4)
    between = round(depth_mm * site.slice_thickness / voxels[2], 4)
    tilt = rng.uniform(-0.05, 0.05, 2)  # mm per mm along z: up to 3 degrees
    return Canvas(voxels, (in_plane, in_plane, between), (tilt[0], tilt[1]))


def _vessel(rng: Generator, canvas: Canvas, *, wall_mm: Vector, bulge_mm: float, reach_mm: float = math.inf) -> Vessel:
    """A vessel somewhere near the middle: up to 15 % of the field of view away along each axis."""
    field_mm = canvas.zooms_mm[0] * canvas.image.shape[0]
    x, y = rng.uniform(-0.15, 0.15, 2) * field_mm
    return Vessel(
        middle=(x, y), radius_mm=rng.uniform(2.4, 3.3), wall_mm=rng.uniform(*wall_mm), bulge_mm=bulge_mm,
        angle=rng.uniform(0, 2 * np.pi), sharpness=rng.uniform(0.7, 1.4), reach_mm=reach_mm,
        height_mm=rng.uniform(-5, 5),
    )  # fmt: skip


def _as_mr(rng: Generator, canvas: Canvas, *, noise: float) -> Canvas:
    """Adds a bias field, texture and Rician noise (sd in units of the brightest tissue), then a scanner's gain."""
    bias = 1 + np.float32(0.10) * canvas.smooth_field(rng, 60.0)
    signal = canvas.image * bias * (1 + np.float32(0.04) * canvas.smooth_field(rng, 9.0))
    real, imaginary = np.float32(noise) * rng.standard_normal((2, *signal.shape), np.float32)
    canvas.image = np.hypot(signal + real, imaginary) * np.float32(MR_UNIT * rng.uniform(0.8, 1.2))
    return canvas
