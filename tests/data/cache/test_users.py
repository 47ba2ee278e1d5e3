"""Which runs use a cache."""

import os
from pathlib import Path

from vwmm.data.cache.users import known_runs, note_use


def test_runs_are_known_until_their_folders_are_gone(tmp_path: Path) -> None:
    cache, runs = tmp_path / "cache", [tmp_path / os.fsdecode(name) for name in (b"b", b"a c", b"\xff\xfe")]
    for run in runs:
        run.mkdir()
        note_use(cache, run)
        note_use(cache, run)

    assert known_runs(cache) == (sorted(runs), {})
    runs[0].rmdir()
    assert known_runs(cache) == (sorted(runs[1:]), {})
    assert len(list((cache / "uses").iterdir())) == 2
    assert known_runs(tmp_path / "no cache") == ([], {})


def test_a_run_on_a_disk_that_is_not_there_is_not_taken_for_deleted(tmp_path: Path) -> None:
    run = tmp_path / "disk" / "runs" / "first"
    run.mkdir(parents=True)
    note_use(tmp_path / "cache", run)
    (tmp_path / "disk").rename(tmp_path / "unmounted")

    runs, unseen = known_runs(tmp_path / "cache")
    assert (runs, list(unseen)) == ([], [run])
    (tmp_path / "unmounted").rename(tmp_path / "disk")
    assert known_runs(tmp_path / "cache") == ([run], {})
