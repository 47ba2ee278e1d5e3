"""Which runs use a cache."""

import os
from pathlib import Path

from vwmm.data.uses import known_runs, note_use


def test_runs_are_known_until_their_folders_are_gone(tmp_path: Path) -> None:
    cache, runs = tmp_path / "cache", [tmp_path / os.fsdecode(name) for name in (b"b", b"a c", b"\xff\xfe")]
    for run in runs:
        run.mkdir()
        note_use(cache, run)
        note_use(cache, run)

    assert known_runs(cache) == sorted(runs)
    runs[0].rmdir()
    assert known_runs(cache) == sorted(runs[1:])
    assert len(list((cache / "uses").iterdir())) == 2
    assert known_runs(tmp_path / "no cache") == []
