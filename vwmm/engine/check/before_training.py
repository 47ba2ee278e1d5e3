"""Warnings about the cohort at the start of training."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vwmm.config.schema import Config, voxels_left
from vwmm.data.checks.duplicates import similar_in_words, similar_site_names
from vwmm.data.checks.identical_files import content_leaks, telling_facts
from vwmm.data.checks.near_duplicate_record import across_parts, describe, find_near_pairs
from vwmm.data.checks.same_columns import same_columns
from vwmm.data.cohort.cases import Cohort
from vwmm.data.cohort.cohort_notes import cohort_notes
from vwmm.engine.console import LOG
from vwmm.engine.preprocessing.fill_cache import Images
from vwmm.system.errors import UserError

_MAX_LINES = 5
# With 2.8 images on average incomplete patients did harm, with 5.6 good (docs/missing_images.md).
FEW_IMAGES = 4


def images_in_batch_norm(config: Config, present: Mapping[str, float]) -> dict[str, float]:
    """How many images batch norm sees at a time on average, by modality, where these are few and of one voxel each in
    its last layers. present: the share of the cases that have an image.
    """
    few, dropped = dict[str, float](), config.model.modality_dropout
    for name, modality in config.modalities.items():
        seen = config.train.micro_batch_size * present[name] * (1 - dropped)
        is_one_voxel = all(voxels_left(length, config.model.backbone) == 1 for length in modality.size)
        if config.model.norm == "batch" and is_one_voxel and seen < FEW_IMAGES:
            few[name] = seen
    return few


def few_images(config: Config, cohort: Cohort, assigned: Mapping[str, str]) -> str | None:
    """A note where batch norm sees few images with one voxel each in its last layers; None: nowhere.

    A small micro-batch alone is the user's choice: noted are missing images that leave less of it.
    """
    cases = [case for case in cohort.cases if assigned[case.name] == "train"]
    present = {name: sum(case.images[name] is not None for case in cases) / len(cases) for name in config.modalities}
    seen = images_in_batch_norm(config, present)
    few = [f"{count:.1f} {name}" for name, count in seen.items() if count < config.train.micro_batch_size]
    if not few:
        return None
    return (
        f"micro-batches are small for images of one voxel in the last layers: batch norm sees on average "
        f"{', '.join(few)} images at a time; try a larger train.micro_batch_size (docs/missing_images.md)"
    )


def note_cohort(config: Config, cohort: Cohort, assigned: Mapping[str, str]) -> None:
    """Logs what is worth knowing of the cohort although nothing is wrong with it."""
    for note in cohort_notes(cohort, assigned, config.data.columns.site, weights=config.train.class_weights):
        LOG.info("note: %s", note)


def warn_of_suspicions(config: Config, cohort: Cohort, assigned: Mapping[str, str], images: Images) -> None:
    """Logs what is suspicious; raises UserError where the same file is in two parts of the split.

    All processes find the same.
    """
    leaks, copies = content_leaks(cohort, assigned, images.hashes(cohort))
    if leaks:
        raise UserError(leaks)
    if (note := few_images(config, cohort, assigned)) is not None:
        LOG.info("note: %s", note)
    for warning in telling_facts(cohort, list(config.modalities), config.data.columns.site):
        LOG.info("warning: %s", warning)
    _tell_of_same_columns(config, cohort, images)
    near = find_near_pairs(Path(config.cache.dir), cohort, images.hashes(cohort))
    in_order = dict.fromkeys([*across_parts(near, assigned), *near])
    sites = [f"{cohort.csv_path.name} line {one.line}: {one.found}" for one in similar_site_names(cohort.cases)]
    same = [copy.text for copy in copies]
    for found in (similar_in_words(cohort), sites, same, describe(in_order, cohort, assigned)):
        _warn(found)


def _tell_of_same_columns(config: Config, cohort: Cohort, images: Images) -> None:
    contents = {(case, name): content for case, own in images.hashes(cohort).items() for name, content in own.items()}
    for one in same_columns(cohort.cases, config.modalities, contents):
        LOG.info("%s: %s: %s", "warning" if one.is_warning else "note", cohort.csv_path.name, one.text)


def _warn(found: Sequence[str]) -> None:
    """The first ones, and how many there are."""
    for text in found[:_MAX_LINES]:
        LOG.info("warning: %s", text)
    if len(found) > _MAX_LINES:
        LOG.info("warning: ... and %d more; `vwmm check` lists all", len(found) - _MAX_LINES)
