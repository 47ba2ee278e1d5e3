"""Dangling links and git-lfs or git-annex pointers."""

from pathlib import Path

# What git-lfs and git-annex write instead of content that was not fetched (their specifications of pointer files).
_POINTERS = (b"version https://git-lfs.github.com/spec/", b"/annex/objects/")
MAX_POINTER_BYTES = 1024
HOW_TO_FETCH = "fetch the data set whole (git annex get, datalad get, git lfs pull)"


def is_pointer(path: Path) -> bool:
    """Whether a file of at most MAX_POINTER_BYTES stands for content that was not fetched. Raises OSError."""
    with path.open("rb") as stream:
        return stream.read(64).startswith(_POINTERS)
