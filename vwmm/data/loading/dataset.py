"""The dataset: samples and batches as tensors, presence mask and label."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from vwmm.config.schema import Modality
from vwmm.data.cache.memory_maps import EntryMaps
from vwmm.data.cache.store import Entry, Store
from vwmm.data.cohort.cases import Case
from vwmm.data.readers.image import ImageError
from vwmm.system.errors import RunError, UserError
from vwmm.system.fault_injection import FAULTS
from vwmm.system.problems import printable


@dataclass(frozen=True)
class Batch:
    """Cases on their way to the network."""

    images: dict[str, torch.Tensor]
    """Per modality (B, 1, *size); zeros where the image is missing. In the cache's dtype, after `cast` float32."""
    present: torch.Tensor
    """(B, M) bool, modalities in the configuration's order: which images there are."""
    labels: torch.Tensor
    """(B,) int64; -1 for a case without a label."""
    indices: torch.Tensor
    """(B,) int64, positions of the cases in their list; they stay in the computer's memory."""
    levels: dict[str, torch.Tensor] = field(default_factory=dict)
    """Per modality (B, 2) float32, step and lowest value of uint8 voxels; empty for the other dtypes."""

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device; copies from pinned memory do not wait."""
        return Batch(
            {name: image.to(device, non_blocking=True) for name, image in self.images.items()},
            self.present.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
            self.indices,
            {name: level.to(device, non_blocking=True) for name, level in self.levels.items()},
        )

    def cast(self) -> "Batch":
        """The same batch with float32 images, cast where they are."""
        return replace(self, images={name: self._cast(name) for name in self.images}, levels={})

    def _cast(self, name: str) -> torch.Tensor:
        image = self.images[name].float()
        if name not in self.levels:
            return image
        step, lowest = (self.levels[name][:, n].reshape(-1, *[1] * (image.ndim - 1)) for n in (0, 1))
        return image.mul_(step).add_(lowest)


class CaseDataset:
    """Batches of cases from the store, by lists of indices."""

    def __init__(
        self,
        cases: Sequence[Case],
        modalities: Mapping[str, Modality],
        entries: Mapping[tuple[str, str], Entry],
        labels: Sequence[int],
        store: Store,
        *,
        on_damage: Callable[[Entry], None] | None = None,
    ) -> None:
        """`entries`: by (case's name, modality); `labels`: of each case, -1 where it has none.

        on_damage: called with each damaged cached image, which is rebuilt.
        """
        assert len(cases) == len(labels)
        self.cases = list(cases)
        self.modalities = dict(modalities)
        self.labels = list(labels)
        self._recipes = {name: store.recipe(modality) for name, modality in modalities.items()}
        self._maps = EntryMaps(store, on_damage=on_damage)
        self._entries = {
            (number, name): entries[case.name, name]
            for number, case in enumerate(cases)
            for name in modalities
            if case.images[name] is not None
        }
        self._resident: Batch | None = None
        self.buffers: list[Batch] = []
        """Buffers that `load_batches` has done with."""

    def __len__(self) -> int:
        return len(self.cases)

    def present(self) -> np.ndarray:
        """(N, M) bool: which images each case has."""
        has = [[(number, name) in self._entries for name in self.modalities] for number in range(len(self.cases))]
        return np.array(has, dtype=bool).reshape(len(self.cases), len(self.modalities))

    @property
    def num_bytes(self) -> int:
        """Room that all images take as they are kept, missing ones included."""
        return len(self) * sum(recipe.layout.voxel_bytes for recipe in self._recipes.values())

    def image(self, index: int, modality: str) -> np.ndarray | None:
        """(1, *size) float32; None where it is missing."""
        voxels, (step, lowest) = self._read(index, modality)
        if voxels is None:
            return None
        return voxels if voxels.dtype == np.float32 else voxels.astype(np.float32) * step + lowest

    def empty(self, size: int, *, pin_memory: bool = False) -> Batch:
        """A batch of zeros to be filled."""
        # Torch's memory, not numpy's: its alignment is fixed, and with it the rounding of what is computed from it.
        has_levels = [name for name, recipe in self._recipes.items() if recipe.dtype == "uint8"]
        return Batch(
            {
                name: torch.zeros(size, *r.layout.shape, dtype=getattr(torch, r.dtype), pin_memory=pin_memory)
                for name, r in self._recipes.items()
            },
            torch.zeros(size, len(self.modalities), dtype=torch.bool, pin_memory=pin_memory),
            torch.zeros(size, dtype=torch.int64, pin_memory=pin_memory),
            torch.zeros(size, dtype=torch.int64),
            {name: torch.zeros(size, 2, pin_memory=pin_memory) for name in has_levels},
        )

    def fill(self, buffer: Batch, indices: Sequence[int]) -> Batch:
        """The cases of a batch, in the first rows of a buffer that was made by `empty`."""
        batch = _rows(buffer, len(indices))
        present = batch.present.numpy()
        for column, (name, image) in enumerate(batch.images.items()):
            rows = image.numpy()
            levels = batch.levels[name].numpy() if name in batch.levels else None
            for row, index in enumerate(indices):
                present[row, column] = (index, name) in self._entries
                self._copy(index, name, rows[row], levels[row] if levels is not None else None)
        batch.labels.numpy()[:] = [self.labels[index] for index in indices]
        batch.indices.numpy()[:] = indices
        return batch

    def __getitem__(self, indices: Sequence[int]) -> Batch:
        """A batch of its own, as the cache keeps it."""
        if self._resident is not None:
            return _selected(self._resident, indices)
        return self.fill(self.empty(len(indices)), indices)

    @property
    def is_resident(self) -> bool:
        """Whether the images are in a device's memory."""
        return self._resident is not None

    def keep_on(self, device: torch.device, *, batch_size: int = 16) -> None:
        """Copies every image to the device's memory, from which batches are taken from now on."""
        resident, buffer = self.empty(len(self)).to(device), self.empty(batch_size)
        for start in range(0, len(self), batch_size):
            indices = list(range(start, min(start + batch_size, len(self))))
            part = self.fill(buffer, indices)
            for whole, some in zip(_tensors(resident), _tensors(part), strict=True):
                whole[indices] = some.to(whole.device)
        self._resident = resident

    def _copy(self, index: int, name: str, target: np.ndarray, levels: np.ndarray | None) -> None:
        """One image into a row of a batch, by one thread, which lets the interpreter go on."""
        voxels, found = self._read(index, name)
        if voxels is None:
            target[...] = 0
        else:
            np.copyto(target, voxels)
        if levels is not None:
            levels[:] = found

    def _read(self, index: int, name: str) -> tuple[np.ndarray | None, tuple[float, float]]:
        """Mapped voxels and their levels; None and zeros where the image is missing."""
        entry = self._entries.get((index, name))
        if entry is None:
            return None, (0.0, 0.0)
        case = self.cases[index]
        where = printable(f"line {case.line}, case {case.name}: {name} {case.images[name]}")
        try:
            FAULTS.at("read", case=case.name)
            voxels, levels = self._maps.voxels(entry, self._recipes[name])
        except (ImageError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise UserError(f"{where}: {reason}") from error
        except MemoryError as error:
            raise MemoryError(f"{where}: {error}") from error
        except Exception as error:  # in a thread; the caller does not know which image it was
            raise RunError(f"{where}: cannot be read: {error.__class__.__name__}: {error}") from error
        return voxels, (levels.step, levels.lowest)


def _tensors(batch: Batch) -> list[torch.Tensor]:
    return [*batch.images.values(), batch.present, batch.labels, batch.indices, *batch.levels.values()]


def _rows(batch: Batch, count: int) -> Batch:
    """The first rows, without a copy."""
    return Batch(
        {name: image[:count] for name, image in batch.images.items()},
        batch.present[:count],
        batch.labels[:count],
        batch.indices[:count],
        {name: level[:count] for name, level in batch.levels.items()},
    )


def _selected(batch: Batch, indices: Sequence[int]) -> Batch:
    """Some rows, copied where they are."""
    here = torch.tensor(indices, dtype=torch.int64)
    there = here.to(batch.labels.device, non_blocking=True)
    return Batch(
        {name: image.index_select(0, there) for name, image in batch.images.items()},
        batch.present.index_select(0, there),
        batch.labels.index_select(0, there),
        here,
        {name: level.index_select(0, there) for name, level in batch.levels.items()},
    )
