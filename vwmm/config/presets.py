"""Preprocessing presets per kind of image, with their sources.

A preset is a starting point: keys beside it override it, and `vwmm prepare --show` draws what comes of
it.
"""

from typing import Any, Literal

PresetName = Literal["vessel_wall_mri", "t1", "t2", "flair", "dwi", "head_ct", "ct_angiography"]

# Outliers are clipped where nnU-Net clips them (Isensee et al., Nature Methods 2021). An MRI's values, which have no
# unit, are z-scored over the foreground (Reinhold et al., SPIE Medical Imaging 2019). N4 is Tustison et al.'s (IEEE
# TMI 2010).
_MRI: dict[str, Any] = {
    "orientation": "RAS",
    "window_hu": None,
    "clip_percentiles": [0.5, 99.5],
    "intensity": "z_score_foreground",
    "foreground": "otsu",
}
_CT: dict[str, Any] = {"orientation": "RAS", "clip_percentiles": None, "bias_correction": False, "intensity": "min_max"}

# A tuple is cut to the modality's dimensions.
PRESETS: dict[PresetName, dict[str, Any]] = {
    # 0.5 mm isotropic is the resolution that the consensus gives for 3D sequences (Mandell et al., AJNR 2017). Surface
    # coils leave a strong field of intensity.
    "vessel_wall_mri": _MRI | {"spacing_mm": (0.5, 0.5, 0.5), "bias_correction": True},
    # 1 mm isotropic, as BraTS distributes them (Bakas et al., arXiv:1811.02629).
    "t1": _MRI | {"spacing_mm": (1.0, 1.0, 1.0), "bias_correction": True},
    "t2": _MRI | {"spacing_mm": (1.0, 1.0, 1.0), "bias_correction": True},
    # Without N4, which took FLAIR signal away in the glioma collections (Bakas et al., Scientific Data 2017).
    "flair": _MRI | {"spacing_mm": (1.0, 1.0, 1.0), "bias_correction": False},
    # Thick slices; a diffusion restriction is bright, so nothing is clipped above.
    "dwi": _MRI | {"spacing_mm": None, "bias_correction": False, "clip_percentiles": [0.5, 100.0]},
    # Width 80 at level 40, the brain window of the RSNA haemorrhage data (Flanders et al., Radiology: AI 2020).
    "head_ct": _CT | {"spacing_mm": None, "window_hu": [0.0, 80.0]},
    # Width 700 at level 200: contrast medium, calcification and the wall are all visible.
    "ct_angiography": _CT | {"spacing_mm": None, "window_hu": [-150.0, 550.0]},
}


def with_preset(fields: dict[Any, Any]) -> dict[Any, Any]:
    """A modality's keys in one configuration layer, over its preset; the check reports unknown names."""
    preset = PRESETS.get(fields["preset"]) if isinstance(fields.get("preset"), str) else None
    return {**preset, **fields} if preset else fields


def cut_to_dims(fields: dict[Any, Any]) -> dict[Any, Any]:
    """The same with a preset's tuples as lists, one number per dimension."""
    dims = fields.get("dims")
    length = dims if isinstance(dims, int) else 3
    return {key: list(value[:length]) if isinstance(value, tuple) else value for key, value in fields.items()}
