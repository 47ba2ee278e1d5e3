"""Content hash of an image file, and an index that remembers it.

Reading a cohort to hash it takes as long as a slow disk takes. A file that has the same path, size, times and inode as
when it was hashed is taken to be the same, as git does it.
"""

import hashlib
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import xxhash

from vwmm.data.readers import metaimage, nrrd
from vwmm.data.readers.dicom.volume import files_in
from vwmm.data.readers.image import ImageError

# A file changed within its clock's grain after it was hashed would look the same; younger ones are not remembered.
RACY_S = 2.0
_HEX = 32
# Formats with headers that may name another file.
_DATA_FILES = {**dict.fromkeys(nrrd.SUFFIXES, nrrd.data_file), **dict.fromkeys(metaimage.SUFFIXES, metaimage.data_file)}


@dataclass(frozen=True)
class Identity:
    """The properties of an image file that are known without reading it."""

    key: str
    """Hash of the paths, sizes, times and inodes of its files: an index of them shows no path."""
    changed_ns: int
    """When one of its files was last changed."""

    @property
    def is_settled(self) -> bool:
        """Whether a later change would be seen."""
        return time.time_ns() - self.changed_ns > RACY_S * 1e9


def files_of(path: Path) -> list[Path]:
    """The files that an image consists of: a DICOM folder's, or a header and the voxels beside it. Raises OSError."""
    if path.is_dir():
        return files_in(path)
    suffix = path.suffix.lower()
    data_file = _DATA_FILES.get(suffix)
    if data_file is None:
        return [path]
    try:
        voxels = data_file(path)
    except ImageError:  # the reader will report the error
        voxels = None
    return [path] if voxels is None or not voxels.is_file() else [path, voxels]


def identify(path: Path) -> Identity:
    """The identity of an image. Raises OSError."""
    digest, changed_ns = hashlib.sha256(), 0
    for file in files_of(path):
        state = file.stat()
        fields = (os.path.abspath(file), state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
        digest.update(repr(fields).encode("utf-8", "surrogateescape"))
        changed_ns = max(changed_ns, state.st_mtime_ns, state.st_ctime_ns)
    return Identity(digest.hexdigest()[:_HEX], changed_ns)


def content_hash(path: Path) -> str:
    """SHA-256 of an image's bytes, shortened to 32 digits; of several files, of their hashes. Raises OSError."""
    if not path.is_dir() and len(files := files_of(path)) == 1:
        with files[0].open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:_HEX]
    hashes = []
    for file in files_of(path):
        with file.open("rb") as stream:
            hashes.append(hashlib.file_digest(stream, "sha256").hexdigest()[:_HEX])
    # Names and order of a series' files have no meaning.
    return hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()[:_HEX]


class IdentityIndex:
    """Content hashes by identity, in a folder of text files; each process appends to a file of its own.

    A line is the identity, the content hash and a check of both. A damaged line is ignored, which costs one
    reading of an image and nothing else.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, str] = {}
        self._own = folder / f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:8]}.txt"
        for file in sorted(folder.glob("*.txt")):
            self._read(file)

    def get(self, identity: Identity) -> str | None:
        """The content hash, if the image is known."""
        return self._known.get(identity.key)

    def put(self, identity: Identity, content: str) -> None:
        """Remembers an image. Raises OSError."""
        if identity.key in self._known or not identity.is_settled:
            return
        self._known[identity.key] = content
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._own.open("a", encoding="ascii") as stream:
            stream.write(_line(identity.key, content))

    def _read(self, file: Path) -> None:
        try:
            lines = file.read_text(encoding="ascii", errors="replace").splitlines(keepends=True)
        except OSError:
            return
        for line in lines:
            identity, content = line[:_HEX], line[_HEX + 1 : 2 * _HEX + 1]
            if line == _line(identity, content):
                self._known[identity] = content

    def compact(self) -> None:
        """Brings all files together in one. Raises OSError."""
        from vwmm.config.run_folder import write_whole

        files = sorted(self.folder.glob("*.txt"))
        if len(files) < 2:
            return
        for file in files:
            self._read(file)
        lines = [_line(identity, content) for identity, content in sorted(self._known.items())]
        write_whole(self.folder / f"all-{uuid.uuid4().hex[:8]}.txt", "".join(lines))
        for file in files:
            file.unlink(missing_ok=True)


def _line(identity: str, content: str) -> str:
    check = xxhash.xxh3_64_hexdigest(f"{identity} {content}".encode())[:8]
    return f"{identity} {content} {check}\n"
