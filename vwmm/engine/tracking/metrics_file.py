"""Writes and repairs metrics.jsonl: each step and epoch once."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xxhash

from vwmm.config.run_folder import open_in_place, write_whole
from vwmm.engine.console import LOG


class MetricsFile:
    """A JSON object a line; written by the main process."""

    def __init__(self, path: Path) -> None:
        self._stream = open_in_place(path, "ab", buffering=0)
        self._waiting: list[bytes] = []
        self._size = os.fstat(self._stream.fileno()).st_size
        self._hashed = xxhash.xxh3_128(path.read_bytes())
        self._lock = threading.Lock()
        self.digest = self._digest()
        """`{"bytes", "xxh3"}` of what was in the file when it was last flushed to the disk itself."""

    def fileno(self) -> int:
        """Where the file is open."""
        return self._stream.fileno()

    def write(self, records: list[dict[str, Any]]) -> None:
        """Appends the records. On a full disk they wait in memory for the next call."""
        self._waiting += [json.dumps(record, allow_nan=False).encode() + b"\n" for record in records]
        try:
            self.flush(is_durable=False)
        except OSError as error:
            LOG.info("metrics.jsonl cannot be written (%s); %d lines wait", error.strerror, len(self._waiting))

    def flush(self, *, is_durable: bool = True) -> None:
        """Writes what waits, to the disk itself. Raises OSError, and then nothing of it is in the file."""
        with self._lock:
            lines = b"".join(self._waiting)
            try:
                _write_all(self._stream.fileno(), lines)
                if is_durable:
                    os.fsync(self._stream.fileno())
            except OSError:
                os.ftruncate(self._stream.fileno(), self._size)  # no half a line stays
                raise
            self._size += len(lines)
            self._hashed.update(lines)
            self._waiting.clear()
            if is_durable:
                self.digest = self._digest()

    def _digest(self) -> dict[str, Any]:
        return {"bytes": self._size, "xxh3": self._hashed.hexdigest()}


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def read_records(path: Path) -> Iterator[tuple[tuple[str, int], dict[str, Any], str]]:
    """Each record with its identity, (event, number of its step or epoch), and its line; what is no record is left out.

    The last line may be half a line: it was being written when the process died.
    """
    for line in path.read_bytes().decode("utf-8", "replace").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
            key = (str(record["event"]), int(record["step" if record["event"] == "train" else "epoch"]))
            int(record["step"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue
        yield key, record, line


def cut_metrics(path: Path, *, epoch: int, step: int) -> list[int]:
    """Leaves what was logged up to a checkpoint, each step and epoch once; returns the steps that are missing.

    Steps that are done again are thus not there twice.
    """
    kept: dict[tuple[str, int], str] = {}
    for key, record, line in read_records(path):
        if record["step"] <= step and (key[0] == "train" or key[1] <= epoch):
            kept.setdefault(key, line)
    write_whole(path, "".join(f"{line}\n" for line in kept.values()))
    return [number for number in range(1, step + 1) if ("train", number) not in kept]


def last_step(path: Path) -> int:
    """The last step that was logged; 0 where there is none."""
    return max((int(record["step"]) for _, record, _ in read_records(path)), default=0)
