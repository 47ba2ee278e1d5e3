"""Digests of a run's results: were they changed after the run wrote them?

They tell accidents and careless edits, not forgery: who changes a file on purpose can change its digest as well.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash

from vwmm.config.run_folder import RunFolder

PREDICTIONS_KEY = "predictions_xxh3"
_CHUNK = 2**22


def file_digest(path: Path) -> dict[str, Any]:
    """`{"bytes": ..., "xxh3": ...}` of a file, as status.json has it. Raises OSError."""
    size = path.stat().st_size
    return {"bytes": size, "xxh3": hash_start(path, size)}


def text_digest(content: str) -> str:
    """XXH3, 128 bit, of a text in UTF-8."""
    return xxhash.xxh3_128_hexdigest(content.encode("utf-8"))


def hash_start(path: Path, num_bytes: int) -> str:
    """XXH3, 128 bit, of a file's first bytes. Raises OSError."""
    hashed = xxhash.xxh3_128()
    with path.open("rb") as stream:
        while num_bytes > 0 and (chunk := stream.read(min(num_bytes, _CHUNK))):
            hashed.update(chunk)
            num_bytes -= len(chunk)
    return hashed.hexdigest()


def altered_files(run: RunFolder, status: Mapping[str, Any] | None = None) -> list[str]:
    """The names of a run's results that are not what the run wrote; those that are gone are not among them.

    status: instead of what status.json holds.
    """
    status = _read(run.status) if status is None else status
    found = [str(name) for name in status.get("altered", [])]
    known = status.get("files")
    names = {run.metrics.name: run.metrics, run.predictions.name: run.predictions}
    for name, path in names.items():
        told = known.get(name) if isinstance(known, Mapping) else None
        if name not in found and isinstance(told, Mapping) and _differs(path, told):
            found.append(name)
    if run.predictions.name not in found and predictions_differ(run):
        found.append(run.predictions.name)
    return found


def predictions_differ(run: RunFolder) -> bool:
    """Whether predictions_val.csv is not what was written with the best checkpoint."""
    told = _read(run.best / "meta.json").get(PREDICTIONS_KEY)
    try:
        return told is not None and file_digest(run.predictions)["xxh3"] != told
    except OSError:
        return False


def altered_notes(run: RunFolder, status: Mapping[str, Any] | None = None) -> list[str]:
    """A sentence for each file that is not what the run wrote."""
    text = "was changed after the run wrote it: its numbers are not those of this run."
    return [f"{name} {text}" for name in altered_files(run, status)]


def _differs(path: Path, told: Mapping[str, Any]) -> bool:
    try:
        size = int(told["bytes"])
        return path.stat().st_size < size or hash_start(path, size) != told["xxh3"]
    except FileNotFoundError:
        return False
    except (OSError, KeyError, TypeError, ValueError):
        return True


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
