"""Samples and batches: tensors, a mask of what is present, and the label."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from vwmm.config.schema import Modality
from vwmm.data.manifest import Case
from vwmm.data.store import Entry, open_array


@dataclass(frozen=True)
class Batch:
    """Cases on their way to the network."""

    images: dict[str, torch.Tensor]
    """Per modality (B, 1, *size) float32; zeros where the image is missing."""
    present: torch.Tensor
    """(B, M) bool, modalities in the configuration's order: which images there are."""
    labels: torch.Tensor
    """(B,) int64; -1 for a case without a label."""
    indices: torch.Tensor
    """(B,) int64, positions of the cases in their list."""

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device; copies from pinned memory do not wait."""
        return Batch(
            {name: image.to(device, non_blocking=True) for name, image in self.images.items()},
            self.present.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
            self.indices,
        )


class CaseDataset(Dataset[Batch]):
    """Batches of cases from the store, by lists of indices."""

    def __init__(
        self,
        cases: Sequence[Case],
        modalities: Mapping[str, Modality],
        entries: Mapping[tuple[str, str], Entry],
        labels: Sequence[int],
    ) -> None:
        """`entries`: by (case's name, modality); `labels`: of each case, -1 where it has none."""
        assert len(cases) == len(labels)
        self.cases = list(cases)
        self.modalities = dict(modalities)
        self.labels = list(labels)
        self._paths = {
            (number, name): entries[case.name, name].path
            for number, case in enumerate(cases)
            for name in modalities
            if case.images[name] is not None
        }

    def __len__(self) -> int:
        return len(self.cases)

    def present(self) -> np.ndarray:
        """(N, M) bool: which images each case has."""
        has = [[(number, name) in self._paths for name in self.modalities] for number in range(len(self.cases))]
        return np.array(has, dtype=bool).reshape(len(self.cases), len(self.modalities))

    def image(self, index: int, modality: str) -> np.ndarray | None:
        """(1, *size) float32, memory-mapped; None where it is missing."""
        path = self._paths.get((index, modality))
        return None if path is None else open_array(path)

    def __getitem__(self, indices: list[int]) -> Batch:
        # Torch's memory, not numpy's: its alignment is fixed, and with it the rounding of what is computed from it.
        tensors = {name: torch.zeros(len(indices), 1, *m.size) for name, m in self.modalities.items()}
        images = {name: tensor.numpy() for name, tensor in tensors.items()}
        present = np.zeros((len(indices), len(self.modalities)), bool)
        for row, index in enumerate(indices):
            for column, name in enumerate(self.modalities):
                array = self.image(index, name)
                if array is not None:
                    images[name][row] = array
                    present[row, column] = True
        labels = torch.tensor([self.labels[index] for index in indices], dtype=torch.int64)
        return Batch(tensors, torch.from_numpy(present), labels, torch.tensor(indices, dtype=torch.int64))


def load_batches(
    dataset: CaseDataset, batches: Sequence[list[int]], *, num_workers: int = 0, pin_memory: bool = False
) -> Iterator[Batch]:
    """The batches in the order asked for. No random number is drawn."""
    loader = DataLoader(
        dataset,
        sampler=batches,  # a list of lists is an iterable of what __getitem__ takes
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # otherwise each epoch draws its workers' seed from the global generator
        multiprocessing_context="forkserver" if num_workers else None,
    )
    return iter(loader)
