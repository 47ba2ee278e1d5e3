"""The shared cache: each image transformed once, kept as a memory-mapped array, read by every process.

An entry's name is made of the image's content and of everything that changes a value, so a changed file or recipe is a
new entry and the old one is never read by mistake. Entries are written whole or not at all.
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vwmm.config.run_folder import write_whole
from vwmm.config.schema import Modality
from vwmm.data.transforms import load_input, recipe_key


def content_hash(path: Path) -> str:
    """SHA-256 of an image's bytes, shortened to 32 digits; of a DICOM folder, of its files' hashes."""
    if path.is_dir():
        files = sorted(content_hash(file) for file in path.iterdir() if file.is_file())
        return hashlib.sha256("".join(files).encode()).hexdigest()[:32]
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:32]


@dataclass(frozen=True)
class Entry:
    """One transformed image in the store."""

    content_hash: str
    """Hash of the image that it was made from."""
    path: Path
    """The .npy file with the (1, *size) float32 array."""
    was_built: bool
    """Whether it was made by this call, or found."""


class Store:
    """A folder of transformed images. Any number of processes may read and build at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entry(self, image: Path, modality: Modality) -> Entry:
        """The transformed image, made first where it is not there yet. Raises ImageError, OSError."""
        content = content_hash(image)
        key = hashlib.sha256(f"{content} {recipe_key(modality)}".encode()).hexdigest()[:32]
        path = self.folder / key[:2] / f"{key}.npy"
        if self._is_whole(path, modality):
            return Entry(content, path, was_built=False)
        written = io.BytesIO()
        np.save(written, load_input(image, modality), allow_pickle=False)
        write_whole(path, written.getvalue())
        return Entry(content, path, was_built=True)

    def _is_whole(self, path: Path, modality: Modality) -> bool:
        """Whether the entry is there and has the shape and number of bytes that it should."""
        try:
            array = open_array(path)
        except Exception:  # damaged bytes may bring numpy to anything; whatever it is, the entry is built again
            return False
        return array.shape == (1, *modality.size) and array.dtype == np.float32


def open_array(path: Path) -> np.ndarray:
    """The entry as a read-only memory map: its pages are shared by all processes of the machine."""
    array: np.ndarray = np.lib.format.open_memmap(path, mode="r")  # unlike np.load it reads nothing but arrays
    return array
