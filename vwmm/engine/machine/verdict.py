"""Which part of training takes longest, and what to change first."""

from dataclasses import dataclass

from vwmm.config.schema import Config
from vwmm.engine.machine.floors import Work
from vwmm.engine.machine.input_rate import InputRate
from vwmm.engine.machine.step_parts import StepTimes


@dataclass(frozen=True)
class Measured:
    """What was measured of a configuration on this machine."""

    device: str
    """`cpu`, or the GPU's name."""
    precision: str
    """no, fp16 or bf16."""
    is_synthetic: bool
    """Whether the cases were made for the measurement."""
    num_cases: int
    """Cases that were measured with."""
    num_cohort: int | None
    """Cases of the cohort that train; None: no cohort was given."""
    cohort_bytes: int | None
    """Of all images of the cohort in the cache; None: no cohort was given."""
    memory: int
    """Bytes that cached images may take."""
    input: InputRate
    """How fast cases come."""
    step: StepTimes
    """A step by part."""
    num_passes: int
    """Forward and backward passes of a step."""
    pass_overhead_s: float
    """Seconds of a pass that do not depend on how many cases are in it."""
    work: Work
    """Counted arithmetic, bytes and kernels."""
    floors: dict[str, float]
    """Seconds of forward and backward at least, by what limits them."""
    peak_memory: int
    """Bytes of this process."""
    peak_gpu_memory: int | None
    """Bytes that tensors took on the GPU; None: there is none."""

    @property
    def overhead_s(self) -> float:
        """Seconds of a step that more cases in a pass or a step would share."""
        parts = self.step.parts
        launches = min(self.num_passes * self.pass_overhead_s, self.step.computing)
        return launches + parts["reduce"] + parts["optimizer"] + parts["other"]

    @property
    def busy_s(self) -> float:
        """Seconds of a step without the wait for its input."""
        return max(1e-9, self.step.seconds - self.step.parts["input wait"])

    @property
    def fits_memory(self) -> bool:
        """Whether the cohort stays in memory once it was read."""
        return self.cohort_bytes is None or self.cohort_bytes < self.memory

    @property
    def limit(self) -> str:
        """The highest of the floors."""
        return max(self.floors, key=lambda name: self.floors[name])

    @property
    def share_reached(self) -> float:
        """The highest floor, as a share of what forward and backward take."""
        return self.floors[self.limit] / max(1e-9, self.step.computing)

    def devices_fed(self, rate: float) -> float:
        """How many devices such as this one an input of so many cases a second keeps busy."""
        return rate * self.busy_s / self.step.cases


@dataclass(frozen=True)
class Verdict:
    """What limits training."""

    bottleneck: str
    """A key of `TITLES`."""
    seconds: dict[str, float]
    """Of a step by what could limit it, averaged over the run; the largest is the bottleneck."""
    first: str
    """What to change first."""


TITLES = {
    "disk": "the disk of the cache",
    "input": "the threads that read batches",
    "copy": "the copy of batches to the device",
    "augmentation": "augmentation",
    "overhead": "steps and passes with too few cases",
    "compute": "forward and backward",
}


def judge(config: Config, measured: Measured) -> Verdict:
    """The largest part of a step, and the change that makes it smaller."""
    parts = measured.step.parts
    # A cohort that stays in memory is read from the disk in the first epoch only.
    share_cold = 1 / config.train.epochs if measured.fits_memory else 1.0
    cold_s = measured.step.cases / measured.input.cold
    seconds = {
        "disk": share_cold * max(0.0, cold_s - measured.step.seconds),
        "input": parts["input wait"],
        "copy": parts["copy"],
        "augmentation": parts["augmentation"],
        "overhead": measured.overhead_s,
        "compute": max(0.0, sum(parts.values()) - parts["input wait"] - parts["copy"] - parts["augmentation"]
                       - measured.overhead_s),
    }  # fmt: skip
    bottleneck = max(seconds, key=lambda name: seconds[name])
    return Verdict(bottleneck, seconds, _advice(bottleneck, config, measured))


def _advice(bottleneck: str, config: Config, measured: Measured) -> str:
    """The change of the configuration, or of the machine, that helps most."""
    train, smaller = config.train, _smaller_dtype(config)
    if bottleneck == "disk":
        often = (
            "in the first epoch" if measured.fits_memory else "in each epoch, as the cohort does not fit into memory"
        )
        return f"put cache.dir on a local disk{smaller and f', or {smaller}'}: training waits for it {often}"
    if bottleneck == "input":
        readers = measured.input.better_readers(train.num_workers)
        if readers is not None:
            rate = measured.input.warm_by_readers[readers]
            return f"train.num_workers={readers}: it reads {rate:.3g} instead of {measured.input.warm:.3g} cases/s"
        return smaller or "fewer processes on this machine: its memory delivers no more images"
    if bottleneck == "copy":
        return "cache.on_device=true, if the cohort fits" + (f"; else {smaller}" if smaller else "")
    if bottleneck == "augmentation":
        return _augmentation_advice(config)
    if bottleneck == "overhead":
        return _overhead_advice(config, measured)
    return _compute_advice(config, measured)


def _smaller_dtype(config: Config) -> str:
    """The next smaller way to keep voxels; empty: there is none."""
    return {
        "float32": "cache.dtype=float16 (half of the bytes)",
        "float16": "cache.dtype=uint8 (half of the bytes)",
        "uint8": "",
    }[config.cache.dtype]


def _augmentation_advice(config: Config) -> str:
    """The modality with most voxels costs most."""
    voxels = {
        name: _product(modality.size) for name, modality in config.modalities.items() if config.augment[name].enabled
    }
    largest = max(voxels, key=lambda name: voxels[name], default=next(iter(config.modalities)))
    return (
        f"lower chances for the largest images (augment.{largest}.affine_chance, .noise_chance, ...): what is left of "
        "them is drawn as often as before"
    )


def _overhead_advice(config: Config, measured: Measured) -> str:
    train = config.train
    if measured.num_passes > 1:
        cases = min(train.batch_size, 4 * train.micro_batch_size * max(1, train.batch_size // train.micro_batch_size
                                                                        // measured.num_passes))  # fmt: skip
        return f"train.cases_at_once={cases}: fewer passes, the same result but for rounding"
    return (
        f"train.batch_size={4 * train.batch_size}: a step has {measured.step.cases:.3g} cases in one pass, and most "
        "of its time does not depend on how many (a new run: the result changes)"
    )


def _compute_advice(config: Config, measured: Measured) -> str:
    if measured.device != "cpu" and measured.precision == "no" and config.train.mixed_precision == "no":
        return "train.mixed_precision=auto, for half precision where it can be trusted"
    if measured.device == "cpu":
        return (
            f"a GPU; else train.cpu_threads above {config.train.cpu_threads} where there are idle cores, smaller "
            "images or a smaller model.backbone"
        )
    return "more GPUs (launch/multi_gpu.yaml), as far as the input feeds them; else a smaller model.backbone"


def _product(lengths: list[int]) -> int:
    result = 1
    for length in lengths:
        result *= length
    return result
