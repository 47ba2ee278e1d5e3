"""From a cohort to datasets: each image transformed once, by whichever process, and found by all."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vwmm.config.errors import UserError
from vwmm.config.schema import Modality
from vwmm.data.checks import describe_image
from vwmm.data.dataset import CaseDataset
from vwmm.data.manifest import Case, Cohort
from vwmm.data.readers import ImageError
from vwmm.data.store import Entry, Store
from vwmm.engine.progress import LOG, Progress
from vwmm.engine.runtime import Runtime


@dataclass(frozen=True)
class Images:
    """The transformed images of a cohort."""

    entries: Mapping[tuple[str, str], Entry]
    """By (case's name, modality)."""

    def hashes(self, cohort: Cohort) -> dict[str, dict[str, str]]:
        """Content hash of each image, by case and modality."""
        table: dict[str, dict[str, str]] = {case.name: {} for case in cohort.cases}
        for (case, modality), entry in self.entries.items():
            table[case][modality] = entry.content_hash
        return table


def prepare_images(runtime: Runtime, cohort: Cohort, modalities: Mapping[str, Modality], cache_dir: Path) -> Images:
    """Transforms what is not in the store yet; raises UserError with every image that cannot be used."""
    runtime.decide(lambda: _check_writable(cache_dir))
    store = Store(cache_dir)
    wanted = [(case, name) for case in cohort.cases for name in modalities if case.images[name] is not None]

    def prepare(image: tuple[Case, str]) -> Entry | str:
        case, name = image
        path = case.images[name]
        assert path is not None
        try:
            return store.entry(path, modalities[name])
        except ImageError as error:
            return f"{describe_image(case, name, cohort)}: {error}"
        except OSError as error:
            return f"{describe_image(case, name, cohort)}: {error.strerror or error}"

    share = -(-len(wanted) // runtime.num_processes)
    with Progress("images", share, "image", is_speaker=runtime.is_main) as bar:
        results = runtime.share_out(wanted, prepare, each=bar.to)
    problems = [result for result in results if isinstance(result, str)]
    if problems:
        raise UserError(problems)
    entries = {
        (case.name, name): entry
        for (case, name), entry in zip(wanted, results, strict=True)
        if isinstance(entry, Entry)
    }
    built = sum(entry.was_built for entry in entries.values())
    LOG.info("cache: %d of %d images found, %d transformed now", len(entries) - built, len(entries), built)
    return Images(entries)


def _check_writable(cache_dir: Path) -> None:
    """The cache's own trouble is said once, not for each image."""
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache_dir):
            pass
    except OSError as error:
        raise UserError(f"cache.dir: {cache_dir} cannot be written: {error.strerror or error}") from error


def build_dataset(
    cases: Sequence[Case], classes: Sequence[str], modalities: Mapping[str, Modality], images: Images
) -> CaseDataset:
    """The dataset of some of the cases; -1 for a case without a label."""
    labels = [-1 if case.label is None else list(classes).index(case.label) for case in cases]
    return CaseDataset(cases, modalities, images.entries, labels)
