"""Every key a user may set: type, default and one line of explanation.

These records hold the only defaults of the program. The line below each field is its documentation: it appears in
`--print-config`, in `configs/default.yaml` and, through `configs/schema.json`, in editors.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from vwmm.config.data_schema import DEFAULT_MODALITIES, Cache, Columns, Data, Modality, Split
from vwmm.config.record import (
    MODALITY_NAME,
    Chance,
    Fraction,
    Location,
    ModalityName,
    Name,
    PositiveInt,
    Record,
    without,
)
from vwmm.system.problems import Problem

__all__ = [
    "DEFAULT_MODALITIES", "Augmentation", "Cache", "Columns", "Config", "Data", "EarlyStopping", "MetricName",
    "Modality", "Model", "Run", "Split", "Tracking", "Train",
]  # fmt: skip


# `loss`, and the metrics of vwmm/analysis/statistics/metrics.py.
MetricName = Literal["loss", "accuracy", "balanced_accuracy", "auroc"]


class Model(Record):
    """One backbone per modality, features concatenated, a fully connected head."""

    backbone: Literal[
        "densenet121", "densenet169", "densenet201", "densenet264", "densenet_thin",
        "resnet10", "resnet18", "resnet34", "resnet50",
    ] = "densenet121"  # fmt: skip
    """The network of each modality; `densenet_thin` has a hundredth of the parameters, for small data."""
    features: PositiveInt | Literal["backbone", "classes"] = "backbone"
    """Features per modality: the backbone's own, a projection to a number of them, or one per class."""
    hidden: list[PositiveInt] = [512, 256, 128]
    """Widths of the head's hidden layers, each followed by ReLU and dropout."""
    dropout: Fraction = 0.5
    """Share of the head's hidden units that is dropped in training."""
    norm: Literal["batch", "instance", "group"] = "batch"
    """Normalisation in the backbones; batch norm sees one micro-batch."""
    checkpointing: bool = False
    """Whether blocks of the backbones keep only their input and are computed again in the backward pass: less memory, more time (a third on a CPU), the same result."""  # noqa: E501
    modality_dropout: Fraction = 0.0
    """Chance that a present image is treated as missing in training; one is always kept."""


class Augmentation(Record):
    """Random changes of one modality's training images; each part has its own chance."""

    enabled: bool = True
    """Whether this modality is augmented at all."""
    flip_axes: list[Annotated[int, Field(ge=0, le=2)]] = [0]
    """Axes that may be mirrored; 0 is left-right in RAS."""
    flip_chance: Chance = 0.5
    """Chance of mirroring each of them."""
    affine_chance: Chance = 0.5
    """Chance of a rotation, scaling and translation."""
    rotate_deg: Annotated[float, Field(ge=0, le=180)] = 10.0
    """Largest rotation about each axis, in degrees; of a 2D image in its plane."""
    scale: Fraction = 0.1
    """Largest relative change of size along each axis."""
    translate: Fraction = 0.05
    """Largest shift along each axis, as a share of the image."""
    low_resolution_chance: Chance = 0.1
    """Chance of a simulated lower resolution."""
    low_resolution: Annotated[float, Field(ge=1)] = 2.0
    """Largest size of its voxels, in voxels of the image."""
    bias_chance: Chance = 0.2
    """Chance of a smooth field of intensity, as MRI coils leave it."""
    bias_field: Annotated[float, Field(ge=0, le=2)] = 0.2
    """Largest coefficient of the field's logarithm (linear and quadratic along each axis)."""
    gamma_chance: Chance = 0.2
    """Chance of a change of contrast."""
    gamma: Annotated[float, Field(ge=0, le=2)] = 0.3
    """Largest logarithm of its exponent."""
    intensity_chance: Chance = 0.3
    """Chance of a linear change of intensity."""
    scale_intensity: Fraction = 0.1
    """Largest relative change."""
    shift_intensity: Annotated[float, Field(ge=0)] = 0.05
    """Largest shift, in the image's units (0..1 after min_max)."""
    noise_chance: Chance = 0.2
    """Chance of noise."""
    noise_std: Annotated[float, Field(ge=0)] = 0.05
    """Largest standard deviation of it, in the image's units."""


class EarlyStopping(Record):
    """When to stop before the last epoch."""

    patience: PositiveInt | None = None
    """Epochs without an improvement of `train.monitor` after which training stops; null: never."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """The least change that counts as an improvement."""


class Train(Record):
    """Training settings. Batch sizes are global: the number of processes changes nothing."""

    epochs: PositiveInt = 50
    """Passes over the training cases."""
    batch_size: PositiveInt = 16
    """Cases per optimizer step, over all processes together."""
    micro_batch_size: PositiveInt = 2
    """Cases that batch norm sees together, computed on one process; `batch_size` is made of these, so at most batch_size / micro_batch_size processes can share a step."""  # noqa: E501
    cases_at_once: PositiveInt | Literal["auto"] = "auto"
    """Cases of one forward and backward pass, whole micro-batches, each with batch statistics of its own: a number, or `auto` for as many as are fast and fit; changes rounding only."""  # noqa: E501
    eval_batch_size: PositiveInt = 4
    """Cases computed at once in validation and prediction."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """`adam`, `adamw` or `sgd`."""
    lr: Annotated[float, Field(gt=0)] = 1e-4
    """Learning rate (its peak, with a schedule)."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """L2 penalty (`adam`, `sgd`) or decoupled decay (`adamw`)."""
    momentum: Fraction = 0.9
    """Momentum of `sgd`; unused by the others."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate over the steps after the warm-up: `constant`, or `cosine` down to zero."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Optimizer steps over which the learning rate rises linearly from zero, with any schedule."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = None
    """Gradients are scaled down to this L2 norm; null: never."""
    class_weights: Literal["balanced"] | list[Annotated[float, Field(gt=0)]] | None = None
    """Weights of the classes in the loss: `balanced` (inverse frequency), one number per class, or null for none."""
    pattern_weights: Literal["balanced"] | None = None
    """Weights of the cases in the loss by which images they have: `balanced` (each combination weighs as much as another), or null for none."""  # noqa: E501
    label_smoothing: Fraction = 0.0
    """Share of each label that is spread over all classes."""
    mixed_precision: Literal["no", "fp16", "bf16", "auto"] = "auto"
    """`no`, `fp16`, `bf16`, or `auto`: the best that the device computes natively, float32 where 3D convolutions would be wrong or slow."""  # noqa: E501
    exact: bool = False
    """Weights that do not depend on the number of processes, bit for bit; costs time, and memory for the gradients of each micro-batch."""  # noqa: E501
    max_skipped_steps: Annotated[int, Field(ge=0)] = 0
    """Steps with a NaN or infinite loss or gradient to skip before training stops; 0: it stops at the first."""
    max_minutes: Annotated[float, Field(gt=0)] | None = None
    """Minutes after which training stops early with a checkpoint, exit code 75; null: never."""
    monitor: MetricName = "loss"
    """The validation value that chooses the best checkpoint."""
    early_stopping: EarlyStopping = EarlyStopping()
    """When to stop before the last epoch."""
    log_every: PositiveInt = 10
    """Steps between two writings of `metrics.jsonl`; every step gets its line."""
    cpu_threads: PositiveInt = 1
    """Threads of each process that trains on a CPU; a training setting, since their number changes the rounding."""
    num_workers: Annotated[int, Field(ge=0)] = 1
    """Threads per process that read batches from the cache ahead of time; 0: read when they are needed."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the weights, the order of the cases and dropout."""

    @model_validator(mode="after")
    def _micro_batches_fit(self) -> "Train":
        if self.batch_size % self.micro_batch_size:
            found = f"batch_size ({self.batch_size}) must be a multiple of micro_batch_size ({self.micro_batch_size})"
            return without([Problem(found, key="batch_size")], self)
        return self


class Tracking(Record):
    """Trackers that follow the run; they never change a result."""

    trackers: list[Literal["wandb", "tensorboard", "mlflow", "trackio"]] = []
    """Trackers to send values to; `metrics.jsonl` is always written, and `vwmm sync` sends it later."""
    project: Name = "vwmm"
    """The tracker's project."""
    group: Name | None = None
    """Under which W&B shows runs together; `vwmm cross_validate` and `vwmm sweep` set it for theirs."""
    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """W&B: `auto` goes online if there are a key and a network, else offline."""
    images: Annotated[int, Field(ge=0)] = 0
    """Validation cases of which a slice of each image is sent with the result, without a name; 0: no image is sent."""


class Run(Record):
    """Where the run is written; never changes a result."""

    name: Name | None = None
    """Name of the run folder; null: that of the last `--config` file."""
    dir: Location = "runs"
    """Folder that holds the run folders."""
    resume: Literal["auto", "must", "never"] = "auto"
    """An unfinished run of this name and configuration: `auto` resumes it, `must` fails if there is none, `never` starts a new run."""  # noqa: E501
    save_every_steps: PositiveInt | None = None
    """Steps between two checkpoints within an epoch; one is written after each epoch in any case."""
    save_every_minutes: Annotated[float, Field(gt=0)] | None = 10
    """Minutes between two checkpoints; null: no matter how long."""
    keep: PositiveInt = 2
    """Checkpoints to go on from that are kept, the newest included; an older one is the way back from a damaged one."""
    snapshots: bool = False
    """Keeps the state after each step in memory (/dev/shm): a killed process loses no step while the machine lives."""
    hang_timeout_s: Annotated[float, Field(ge=1)] = 600
    """Seconds without a sign of life or progress after which a process is named as hanging, and all end."""
    max_stops_without_progress: PositiveInt = 5
    """Starts in a row that may be stopped before they have made one new step; the next one fails."""


class Config(Record):
    """The whole configuration of a run."""

    data: Data = Data()
    """The cohort to train on."""
    split: Split = Split()
    """How patients are divided; always by patient, never by image."""
    modalities: Annotated[dict[ModalityName, Modality], Field(min_length=1)] = {
        name: Modality(**fields) for name, fields in DEFAULT_MODALITIES.items()
    }
    """The kinds of image, by name; a mapping in a YAML file replaces these three, a later one changes it."""
    cache: Cache = Cache()
    """Where the results of the fixed transforms are kept; never changes a result."""
    model: Model = Model()
    """One backbone per modality, features concatenated, a fully connected head."""
    augment: dict[ModalityName, Augmentation] = {name: Augmentation() for name in DEFAULT_MODALITIES}
    """Random changes of the training images, by modality; the name `all` stands for each of them."""
    train: Train = Train()
    """Training settings. Batch sizes are global: the number of processes changes nothing."""
    tracking: Tracking = Tracking()
    """Trackers that follow the run; they never change a result."""
    run: Run = Run()
    """Where the run is written; never changes a result."""

    @model_validator(mode="before")
    @classmethod
    def _each_modality_is_augmented(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("modalities"), dict):
            return values
        given = values.get("augment", {})
        names = [name for name in values["modalities"] if re.fullmatch(MODALITY_NAME, str(name))]
        filled = {**{name: {} for name in names}, **given} if isinstance(given, dict) else given
        return {**values, "augment": filled}

    @model_validator(mode="after")
    def _only_modalities_are_augmented(self) -> "Config":
        known = ", ".join(["all", *self.modalities])
        unknown = [name for name in self.augment if name not in self.modalities]
        return without(
            [Problem(f"no such modality; known are {known}", key=f"augment.{name}") for name in unknown], self
        )

    @model_validator(mode="after")
    def _images_are_large_enough(self) -> "Config":
        backbone, norm = self.model.backbone, self.model.norm
        problems = list[Problem]()
        for name, modality in self.modalities.items():
            left = [voxels_left(length, backbone) for length in modality.size]
            if min(left) < 1:
                found = f"{backbone} needs at least 29 voxels on each axis, found {modality.size}"
                problems.append(Problem(found, key=f"modalities.{name}.size"))
            elif max(left) == 1 and norm == "instance":
                found = (
                    f"instance norm cannot normalise the one voxel that is left of {modality.size} in {backbone}; a "
                    "larger size, or another model.norm"
                )
                problems.append(Problem(found, key=f"modalities.{name}.size"))
            elif max(left) == 1 and norm == "batch" and self.train.micro_batch_size == 1:
                found = (
                    f"batch norm needs 2 or more, because one voxel is left of modalities.{name}.size={modality.size} "
                    f"in {backbone}, found 1"
                )
                problems.append(Problem(found, key="train.micro_batch_size"))
        return without(problems, self)


def voxels_left(length: int, backbone: str) -> int:
    """Voxels of an axis that reach a backbone's last layer: MONAI's strides round up, its average pooling down."""
    return -(-length // 16) if backbone.startswith("resnet") else -(-length // 4) // 8
