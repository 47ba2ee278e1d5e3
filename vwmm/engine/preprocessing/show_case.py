"""Draws what the network sees of one case.

The augmented pictures are those that training on a CPU makes of the case in its first epochs, by the same code. A GPU
makes the same changes, but other noise. Modality dropout depends on the whole cohort and is not shown.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from vwmm.analysis.figures.case_sheet import NUM_AUGMENTED, Augmented, Row, draw_case_sheet
from vwmm.config.schema import Config
from vwmm.data.augmentation.augment import AugmentationParams, augment_batch, sample_params
from vwmm.data.augmentation.captions import describe_params, describe_transforms
from vwmm.data.checks.preflight import image_problem
from vwmm.data.cohort.cases import Case, Cohort
from vwmm.data.readers.read import Image, ImageError, read_image
from vwmm.data.transforms.preprocess import transform
from vwmm.data.transforms.provenance import view_of
from vwmm.system.errors import UserError
from vwmm.system.problems import Problem


def show_case(config: Config, case: Case, *, epochs: int = NUM_AUGMENTED) -> bytes:
    """A PNG of each of the case's images as stored, as the network sees it, and as in the first `epochs`, at most 4.

    Raises UserError with every image that cannot be used.
    """
    images, inputs = load_case(config, case)
    changed = [augment_case(config, case, inputs, epoch=epoch) for epoch in range(1, epochs + 1)]
    rows = []
    for name, modality in config.modalities.items():
        if name not in inputs:
            rows.append(Row(name))
            continue
        path = case.images[name]
        assert path is not None
        view = view_of(images[name], modality)
        rows.append(
            Row(
                name,
                before=view.voxels,
                spacing_mm=view.spacing_mm,
                unit=images[name].unit,
                orientation=view.orientation,
                after=inputs[name][0],
                after_spacing_mm=view.input_spacing_mm,
                after_orientation=view.input_orientation,
                augmented=[
                    Augmented(array, f"epoch {epoch}: {describe_params(one, modality.size, view.input_orientation)}")
                    for epoch, augmented in enumerate(changed, 1)
                    if name in augmented
                    for array, one in [augmented[name]]
                ],
                detail=describe_transforms(modality, images[name].voxels.shape, view.slice_index),
            )
        )
    return draw_case_sheet(rows, title=f"What the network sees of case {case.name}")


def load_case(config: Config, case: Case) -> tuple[dict[str, Image], dict[str, np.ndarray]]:
    """Each of the case's images as stored and as (1, *size) float32, those that are there.

    Raises UserError with every image that cannot be used.
    """
    images, inputs, problems = dict[str, Image](), dict[str, np.ndarray](), list[Problem]()
    for name, modality in config.modalities.items():
        path = case.images[name]
        if path is None:
            continue
        try:
            images[name] = read_image(path, series=modality.series)
            inputs[name] = transform(images[name], modality, mode=config.cache.mode)
        except ImageError as error:
            problems.append(_problem(config, case, name, str(error), error.kind))
        except OSError as error:
            problems.append(_problem(config, case, name, error.strerror or str(error), "unusable"))
    if problems:
        raise UserError(problems)
    return images, inputs


def augment_case(
    config: Config, case: Case, inputs: Mapping[str, np.ndarray], *, epoch: int
) -> dict[str, tuple[np.ndarray, AugmentationParams]]:
    """The case's images of `size` as an epoch of the training sees them, and the parameters; augmented ones only.

    inputs: (1, *size) float32 of each image that is there.
    """
    params = sample_params([case.name], config.modalities, config.augment, seed=config.train.seed, epoch=epoch)
    batch = {name: torch.zeros(1, 1, *modality.size) for name, modality in config.modalities.items()}
    for name, array in inputs.items():
        batch[name][0] = torch.from_numpy(array)
    present = torch.tensor([[name in inputs for name in config.modalities]])
    augmented = augment_batch(batch, present, params)
    return {name: (augmented[name][0, 0].numpy(), params[name][0]) for name in inputs if name in params}


def _problem(config: Config, case: Case, name: str, reason: str, kind: str) -> Problem:
    assert config.data.csv is not None
    cohort = Cohort((case,), (), Path(config.data.csv))
    return image_problem(case, name, cohort, reason, kind)
