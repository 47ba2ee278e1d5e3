"""Applies a run's best checkpoint to cases."""

from vwmm.analysis.statistics.predictions import Predictions
from vwmm.analysis.statistics.shapley import MAX_MODALITIES
from vwmm.config.schema import Config
from vwmm.data.loading.dataset import CaseDataset
from vwmm.engine.checkpoints.checkpoint import Checkpoint
from vwmm.engine.distributed.runtime import Runtime
from vwmm.engine.training.validation import predict_cases
from vwmm.models.fusion import build_model


def classes_of(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The classes of a checkpoint, in the order of the logits."""
    return tuple(checkpoint.description["classes"])


def predict_by_checkpoint(
    runtime: Runtime, config: Config, checkpoint: Checkpoint, dataset: CaseDataset, *, title: str
) -> Predictions:
    """The predictions for a dataset, the same on every rank, with what each image adds to them.

    title: of the progress bar.
    """
    classes = classes_of(checkpoint)
    model = build_model(config.model, config.modalities, len(classes), seed=config.train.seed)
    checkpoint.load().restore_weights(model)
    prepared = runtime.accelerator.prepare_model(model, device_placement=True, evaluation_mode=True)
    return predict_cases(
        runtime, prepared, dataset, classes,
        batch_size=config.train.eval_batch_size, title=title,
        with_subsets=1 < len(config.modalities) <= MAX_MODALITIES,
    )  # fmt: skip
