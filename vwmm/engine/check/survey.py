"""Reads every image in worker processes."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vwmm.analysis.figures.radiological_view import planes_of
from vwmm.config.schema import Modality
from vwmm.data.checks.dicom_identifiers import names_of
from vwmm.data.checks.duplicates import Key
from vwmm.data.checks.image_facts import ImageFacts, ImageJob, Unusable, facts_of
from vwmm.data.checks.person_names import shared_words
from vwmm.data.checks.worker_pool import Died, for_each
from vwmm.data.cohort.cases import Case
from vwmm.engine.console import ProgressBar
from vwmm.system.problems import Problem

THUMBNAIL = 72
"""Pixels of a thumbnail's longer side."""


@dataclass(frozen=True)
class Survey:
    """What was read."""

    facts: dict[Key, ImageFacts]
    """Of each image that could be read, in the order of cases and modalities."""
    findings: Sequence[Problem]
    """One for each image that could not."""
    files: Mapping[Key, str]
    """Each image as a message names it."""


def survey_images(
    cases: Sequence[Case],
    modalities: Mapping[str, Modality],
    files: Mapping[Key, str],
    *,
    num_workers: int,
    pictured: Collection[str] = (),
    timeout_s: float | None = None,
) -> Survey:
    """The facts of all images. pictured: names of the cases of which thumbnails are wanted; timeout_s: of one image."""
    keys = [(case, name) for case in cases for name in modalities if case.images[name] is not None]
    shared = frozenset(shared_words(_names(cases)))
    jobs = [
        ImageJob(path, modalities[name], case.name, case.patient, shared, has_picture=case.name in pictured)
        for case, name in keys
        if (path := case.images[name]) is not None
    ]
    facts: dict[Key, ImageFacts] = {}
    findings = []
    with ProgressBar("reading", len(jobs), "image") as progress:
        done = for_each(read_one, jobs, num_workers=num_workers, preload=[__name__], timeout_s=timeout_s)
        for number, result in done:
            progress.advance(1)
            case, name = keys[number]
            if isinstance(result, ImageFacts):
                facts[case.name, name] = result
                continue
            kind = ("timeout" if result.is_late else "crash") if isinstance(result, Died) else result.kind
            findings.append(Problem(result.reason, kind, case.line, case.name, name, files[case.name, name]))
    order = [(case.name, name) for case, name in keys if (case.name, name) in facts]
    return Survey({key: facts[key] for key in order}, findings, files)


def _names(cases: Sequence[Case]) -> dict[str, set[str]]:
    """Of each patient, those in the table and those of the files."""
    names = defaultdict[str, set[str]](set)
    for case in cases:
        files = [name for path in case.images.values() if path is not None for name in names_of(path)]
        names[case.patient].update([case.name, case.patient, *files])
    return names


def read_one(job: ImageJob) -> ImageFacts | Unusable:
    """The work on one image, in a worker process."""
    found = facts_of(job)
    if isinstance(found, ImageFacts) and found.plane is not None:
        return replace(found, plane=_thumbnail(found))
    return found


def _thumbnail(facts: ImageFacts) -> np.ndarray:
    """(rows, columns) uint8: the slice, or the middle plane of a volume; black to white is the middle 99 %."""
    from PIL import Image

    assert facts.plane is not None
    plane = planes_of(facts.plane.ndim, facts.orientation)[0]
    cut = plane.cut(facts.plane).astype(np.float32)
    sample = cut[:: 1 + cut.shape[0] // 512, :: 1 + cut.shape[1] // 512]
    low, high = np.percentile(sample, (0.5, 99.5))
    grey = np.clip((cut - low) / (high - low if high > low else 1), 0, 1) * 255
    spacing = facts.plane_spacing_mm or (1.0,) * facts.plane.ndim
    aspect = plane.aspect(facts.plane.shape, spacing)
    width, height = (THUMBNAIL, THUMBNAIL * aspect) if aspect <= 1 else (THUMBNAIL / aspect, THUMBNAIL)
    picture = Image.fromarray(grey.astype(np.uint8))
    size = max(1, round(width)), max(1, round(height))
    return np.asarray(
        picture.resize(size, Image.Resampling.BOX if picture.width > size[0] else Image.Resampling.BICUBIC)
    )
