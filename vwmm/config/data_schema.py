"""Schema of the sections data, split, modalities and cache."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from vwmm.config.presets import PresetName
from vwmm.config.record import Fraction, Location, PositiveInt, Range, Record, Size, without
from vwmm.system.problems import Problem


class Columns(Record):
    """The names of the cohort's columns; a modality's column is `modalities.NAME.column`."""

    case: str = "case"
    """Unique name of the case; where the column is absent, the patient's."""
    patient: str = "patient"
    """The patient, the unit of the split; where the column is absent, the case."""
    label: str = "label"
    """The class: any text or integer."""
    split: str = "split"
    """Optional: `train`, `val` or `test`, a split made elsewhere."""
    fold: str = "fold"
    """Optional: number of the fold (from 0) in which the case is validated."""
    site: str = "site"
    """Optional: hospital or scanner, carried through to the predictions."""
    filename: str = "filename"
    """The one file name of the original layout, looked up in each `modalities.NAME.folder`."""


class Data(Record):
    """The cohort to train on."""

    csv: Location | None = None
    """The cohort: a CSV with one row per case."""
    root: Location | None = None
    """Folder that the image paths are relative to; null: the CSV's folder."""
    columns: Columns = Columns()
    """Names of the CSV's columns."""
    labels: Annotated[list[str], Field(min_length=2)] | None = None
    """The classes in their order, `none` or `1.0` beside `1` as well if meant; null: those found, sorted (as numbers where all are)."""  # noqa: E501
    allow_outside_root: bool = False
    """Whether an image may lie outside `root`."""

    @model_validator(mode="after")
    def _labels_are_distinct(self) -> "Data":
        is_twice = bool(self.labels) and len(set(self.labels or ())) < len(self.labels or ())
        return without([Problem("labels has a class twice", key="labels")] if is_twice else [], self)


class Split(Record):
    """How patients are divided; always by patient, never by image."""

    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the patients that is validated on."""
    test_fraction: Fraction = 0.0
    """Share of the patients that is set aside and never used in training."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """Number of folds of a cross-validation; null: one split by `val_fraction`."""
    fold: Annotated[int, Field(ge=0)] | None = None
    """The fold (from 0) that is validated on; the others are trained on."""
    stratified: bool = True
    """Whether each part gets the classes in the cohort's proportions."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the draw; the order of the CSV's rows does not matter."""
    by_site: Literal["stratify", "hold_out"] | None = None
    """Use of the site column: `stratify` gives each part every site's share, `hold_out` puts each site into one part or fold whole; null: none."""  # noqa: E501
    val_sites: Annotated[list[str], Field(min_length=1)] | None = None
    """With `hold_out`: the sites that are validated on; null: drawn, to come near `val_fraction`."""
    test_sites: Annotated[list[str], Field(min_length=1)] | None = None
    """With `hold_out`: the sites of the test part; null: drawn, to come near `test_fraction`."""
    file: Location | None = None
    """A `split.csv` of an earlier run or of `vwmm split`, to be used again."""

    @model_validator(mode="after")
    def _sites_go_together(self) -> "Split":
        problems = [
            Problem(f"{key} names sites that are held out: it needs by_site=hold_out", key=key)
            for key, sites in (("val_sites", self.val_sites), ("test_sites", self.test_sites))
            if sites is not None and self.by_site != "hold_out"
        ]
        if both := sorted(set(self.val_sites or ()) & set(self.test_sites or ())):
            problems.append(Problem(f"val_sites and test_sites both have {', '.join(both)}", key="val_sites"))
        if self.test_sites is not None and self.test_fraction:
            problems.append(Problem("test_sites defines the test part, so test_fraction must be 0", key="test_sites"))
        if self.val_sites is not None and (self.folds is not None or self.fold is not None):
            problems.append(
                Problem(
                    "val_sites and folds exclude each other: a fold defines the sites to validate on", key="val_sites"
                )
            )
        if self.by_site is not None and self.file is not None:
            problems.append(
                Problem(f"by_site={self.by_site} draws a split, but file has one: leave out one of them", key="by_site")
            )
        return without(problems, self)

    @model_validator(mode="after")
    def _fractions_leave_something(self) -> "Split":
        problems = list[Problem]()
        if self.val_fraction + self.test_fraction >= 1:
            problems.append(
                Problem(
                    "test_fraction and val_fraction together must leave cases to train on (below 1)",
                    key="test_fraction",
                )
            )
        if self.folds is not None and self.fold is not None and self.fold >= self.folds:
            problems.append(
                Problem(f"fold counts from 0: with folds={self.folds} it is 0 to {self.folds - 1}", key="fold")
            )
        if self.folds is not None and self.fold is None:
            found = (
                f"folds={self.folds} needs fold, the one to validate on: 0 to {self.folds - 1} (`vwmm cross_validate` "
                "takes each in turn)"
            )
            problems.append(Problem(found, key="folds"))
        return without(problems, self)


class Modality(Record):
    """One kind of image and the fixed transforms that bring it to the network's input."""

    dims: Literal[2, 3]
    """2 or 3: whether the network sees a slice or a volume."""
    size: Size
    """Voxels of the input, one number per dimension, slices last."""
    preset: PresetName | None = None
    """Sets the keys below to the usual values for a kind of image (docs/recipes.md); keys beside it override it."""
    column: str | None = None
    """The CSV's column with the path; null: the modality's own name."""
    folder: Location | None = None
    """Original layout: the folder (relative to `data.root`) that holds this modality's `filename`."""
    series: Annotated[str, Field(min_length=1)] | None = None
    """Which series of a folder with several DICOM series: its SeriesInstanceUID or SeriesDescription; null: the only one."""  # noqa: E501
    orientation: str | None = "RAS"
    """Axis codes that a volume is turned to; null: as stored."""
    spacing_mm: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=2, max_length=3)] | None = None
    """Voxel size that the image is resampled to before the resize; null: as it is."""
    bias_correction: bool = False
    """Whether the smooth field of intensity that MRI coils leave is estimated and divided out (N4)."""
    foreground: Literal["otsu", "nonzero"] | float = "otsu"
    """What counts as foreground: values above Otsu's threshold, those that are not 0, or those above a number."""
    crop_foreground_mm: Annotated[float, Field(ge=0)] | None = None
    """Margin in mm that is kept around the foreground's box, the rest being cut off; null: nothing is."""
    slice: Literal["middle", "largest_foreground", "maximum_projection"] | Annotated[int, Field(ge=0)] = "middle"
    """What of a volume is used as 2D, along its last axis: the `middle` slice, one by its index from 0, the one with the `largest_foreground`, or the `maximum_projection`."""  # noqa: E501
    window_hu: Range | None = None
    """Lower and upper bound that the values are clipped to, in Hounsfield units; null: no clipping."""
    clip_percentiles: Range | None = None
    """Lower and upper percentile of the image's values that they are clipped to; null: no clipping."""
    intensity: Literal["min_max", "z_score", "z_score_foreground", "none"] = "min_max"
    """`min_max` to 0..1, `z_score` to mean 0 and standard deviation 1 (`z_score_foreground`: of the foreground), or `none`."""  # noqa: E501
    fit: Literal["resize", "crop_pad"] = "resize"
    """How the image gets its `size`: `resize` by area, or `crop_pad` about its middle, which keeps the spacing."""

    @property
    def needs_foreground(self) -> bool:
        """Whether `foreground` changes anything."""
        is_cropped, slice_ = self.crop_foreground_mm is not None, self.slice
        return (
            self.bias_correction
            or is_cropped
            or slice_ == "largest_foreground"
            or self.intensity == "z_score_foreground"
        )

    @property
    def needs_even_slices(self) -> bool:
        """Whether a volume needs evenly spaced slices, since no spacing to resample to is set."""
        return not self.uses_one_slice and self.spacing_mm is None

    @property
    def uses_one_slice(self) -> bool:
        """Whether nothing of a volume counts but the slice that is used."""
        return self.dims == 2 and not self.bias_correction and self.crop_foreground_mm is None

    @field_validator("orientation")
    @classmethod
    def _axis_codes(cls, codes: str | None) -> str | None:
        pairs = ("RL", "AP", "SI")
        if codes is not None and sorted("".join(p for p in pairs if c in p) for c in codes) != sorted(pairs):
            raise ValueError("expected three axis codes, one each of R or L, A or P, S or I, such as RAS")
        return codes

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Modality":
        problems = list[Problem]()
        if len(self.size) != self.dims:
            problems.append(Problem(f"size has {len(self.size)} numbers, but dims is {self.dims}", key="size"))
        if self.spacing_mm is not None and len(self.spacing_mm) != self.dims:
            problems.append(
                Problem(f"spacing_mm has {len(self.spacing_mm)} numbers, but dims is {self.dims}", key="spacing_mm")
            )
        if self.window_hu is not None and self.window_hu[0] >= self.window_hu[1]:
            problems.append(Problem("window_hu needs its lower bound first, and two different ones", key="window_hu"))
        if self.clip_percentiles is not None:
            low, high = self.clip_percentiles
            if not 0 <= low < high <= 100:
                problems.append(
                    Problem(
                        "clip_percentiles needs two different numbers from 0 to 100, the lower one first",
                        key="clip_percentiles",
                    )
                )
            if self.window_hu is not None:
                problems.append(
                    Problem("window_hu and clip_percentiles both clip: choose one, null for the other", key="window_hu")
                )
        if self.bias_correction and self.window_hu is not None:
            problems.append(
                Problem("bias_correction is for MRI, window_hu for CT: leave one of them out", key="bias_correction")
            )
        if self.dims == 3 and self.slice != "middle":
            problems.append(
                Problem(f"slice={self.slice} chooses a slice, but dims is 3: the volume is used", key="slice")
            )
        return without(problems, self)


DEFAULT_MODALITIES: dict[str, dict[str, Any]] = {
    "vw_mri": {"dims": 3, "size": [128, 128, 64]},
    "mri": {"dims": 2, "size": [128, 128]},
    # The usual window of CT angiography, width 700 at level 200: contrast, calcification and the wall are all visible.
    "ct": {"dims": 2, "size": [128, 128], "window_hu": [-150.0, 550.0]},
}


class Cache(Record):
    """Where and how the results of the fixed transforms are kept."""

    dir: Location = "cache"
    """Folder of the transformed images, shared by all processes and runs."""
    dtype: Literal["float32", "float16", "uint8"] = "float32"
    """How voxels are stored (cast on the device): `float32`, `float16` with half, `uint8` with a quarter of the space."""  # noqa: E501
    mode: Literal["exact", "fast"] = "exact"
    """`exact` equals MONAI's transforms bit for bit; `fast` agrees with them to 1e-5 and takes less time the first time."""  # noqa: E501
    on_device: bool = False
    """Whether each process keeps the whole cohort in its GPU's memory; without a GPU the cache is read as usual."""
    workers: PositiveInt | None = None
    """Images that each process transforms at once the first time; null: as many as the machine has cores for it."""
