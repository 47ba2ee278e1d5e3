"""Which folder a run gets, who may write in it, and files that are whole or absent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, texts
from vwmm.config.loading import load_config
from vwmm.config.printing import to_yaml
from vwmm.config.run_folder import (
    RunFolder,
    choose_run_folder,
    compare_configs,
    finished_before,
    read_saved_config,
    write_whole,
)
from vwmm.config.schema import Config
from vwmm.system.errors import UserError


def configured(folder: Path, *overrides: str) -> Config:
    return load_config([], [f"run.dir={folder}", "run.name=demo", f"data.csv={folder}/cohort.csv", *overrides])


def make_run(config: Config, name: str, state: str | None) -> RunFolder:
    """A run folder as an earlier run left it."""
    run = RunFolder(Path(config.run.dir) / name)
    write_whole(run.config, to_yaml(config))
    if state is not None:
        run.write_status(state)
    return run


def test_a_new_name_gets_a_new_folder_and_nothing_is_made_yet(tmp_path: Path) -> None:
    assert choose_run_folder(configured(tmp_path / "runs")).path == tmp_path / "runs" / "demo"
    assert not (tmp_path / "runs").exists()


def test_a_finished_run_is_never_touched(tmp_path: Path) -> None:
    config = configured(tmp_path)

    names = []
    for _ in range(3):
        run = choose_run_folder(config)
        names.append(run.name)
        make_run(config, run.name, "done")

    assert names == ["demo", "demo-2", "demo-3"]


@pytest.mark.parametrize("state", ["running", "failed", "preempted", "invalid", None])
def test_an_unfinished_run_of_the_same_configuration_goes_on(state: str | None, tmp_path: Path) -> None:
    config = configured(tmp_path)
    make_run(config, "demo", "done")
    make_run(config, "demo-2", state)

    assert choose_run_folder(config).name == "demo-2"
    assert choose_run_folder(configured(tmp_path, "run.resume=must")).name == "demo-2"
    assert choose_run_folder(configured(tmp_path, "run.resume=never")).name == "demo-3"


def test_runs_that_were_removed_leave_their_numbers_free(tmp_path: Path) -> None:
    """A new run lies above the highest number, where the same command finds it again; also of names alike."""
    config = configured(tmp_path)
    for name in ("demo-2", "demo-10", "demo-x", "demo-02"):
        (tmp_path / name).mkdir()
    RunFolder(tmp_path / "demo-10").write_status("done", "")
    RunFolder(tmp_path / "demo-10").config.write_text(to_yaml(config))

    fresh = choose_run_folder(config)
    assert fresh.name == "demo-11"

    fresh.path.mkdir()
    fresh.config.write_text(to_yaml(config))
    fresh.write_status("failed", "killed")
    assert choose_run_folder(config).name == "demo-11"


def test_keys_that_change_no_result_may_differ(tmp_path: Path) -> None:
    make_run(configured(tmp_path), "demo", "running")

    other = configured(
        tmp_path, "cache.dir=elsewhere", "tracking.mode=offline", "train.log_every=3", "train.num_workers=2"
    )

    assert choose_run_folder(other).name == "demo"


def test_a_preset_counts_as_the_keys_that_it_filled(tmp_path: Path) -> None:
    plain = configured(tmp_path, "modalities.ct.window_hu=[0,80]")
    make_run(plain, "demo", "failed")
    assert choose_run_folder(configured(tmp_path, "modalities.ct.preset=head_ct")).name == "demo"
    with pytest.raises(UserError, match="window_hu: was"):
        choose_run_folder(configured(tmp_path, "modalities.ct.preset=ct_angiography"))


def test_unfinished_run_of_another_configuration_is_refused_with_the_differences(tmp_path: Path) -> None:
    make_run(configured(tmp_path), "demo", "failed")

    with pytest.raises(UserError) as caught:
        choose_run_folder(configured(tmp_path, "train.lr=0.5", "modalities.ct.slice=3", "modalities.mri=null"))

    where = f"run {tmp_path / 'demo'} is unfinished and has another configuration: "
    of_augment = where + "augment.mri: was {"
    assert any(problem.startswith(of_augment) for problem in texts(caught.value.problems))
    assert [problem for problem in texts(caught.value.problems)[1:] if not problem.startswith(of_augment)] == [
        where + 'modalities.ct.slice: was "middle", is 3',
        where + "train.lr: was 0.0001, is 0.5; to resume it, undo the differences; to start a new run: "
        "run.resume=never, or another run.name",
    ]
    assert texts(caught.value.problems)[0].startswith(where + 'modalities.mri: was {"dims": 2')


def test_another_order_of_the_modalities_is_another_configuration(tmp_path: Path) -> None:
    """The head's inputs are in this order: weights of the one make nonsense in the other."""
    make_run(configured(tmp_path), "demo", "failed")
    turned = tmp_path / "turned.yaml"
    turned.write_text("modalities: {ct: {}, mri: {}, vw_mri: {}}")
    config = load_config([turned], [f"run.dir={tmp_path}", "run.name=demo", f"data.csv={tmp_path}/cohort.csv"])

    with pytest.raises(UserError, match="modalities: their order was vw_mri, mri, ct, is ct, mri, vw_mri"):
        choose_run_folder(config)


@pytest.mark.parametrize("state", [None, "done"])
def test_a_run_that_must_go_on_has_to_be_there(state: str | None, tmp_path: Path) -> None:
    config = configured(tmp_path, "run.resume=must")
    if state:
        make_run(config, "demo", state)

    with pytest.raises(UserError, match=r"run\.resume=must: there is no unfinished run 'demo'"):
        choose_run_folder(config)


def test_what_an_aborted_start_leaves_is_used_again(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "demo")
    with run.lock():
        run.write_status("failed")
        run.log.write_text("")
        (run.path / ".writing-123").write_text("{")

    assert choose_run_folder(configured(tmp_path)).name == "demo"


@pytest.mark.parametrize(("sign", "what"), [("fold-0", "cross-validation"), ("sweep.journal", "sweep")])
def test_a_cross_validation_or_a_sweep_is_not_taken_for_a_finished_run(sign: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "demo" / sign).mkdir(parents=True)
    with pytest.raises(UserError, match=f"demo is a {what}, not a run; choose another run.name"):
        choose_run_folder(configured(tmp_path))


def test_a_folder_or_file_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "thesis.tex").write_text("mine")
    (tmp_path / "demo-2").write_text("a file")

    assert choose_run_folder(configured(tmp_path)).name == "demo-3"
    (tmp_path / "demo-2").unlink()
    assert choose_run_folder(configured(tmp_path)).name == "demo-2"


@pytest.mark.parametrize("content", ["{", "[]", "\x00", '{"state": '])
def test_a_status_or_configuration_that_cannot_be_read_is_not_done(content: str, tmp_path: Path) -> None:
    run = make_run(configured(tmp_path), "demo", None)
    run.status.write_text(content)

    assert run.state() is None
    assert choose_run_folder(configured(tmp_path)).name == "demo"
    run.config.write_text(content)
    with pytest.raises(UserError, match=r"config\.yaml"):
        choose_run_folder(configured(tmp_path))


def test_the_status_says_what_it_was_told(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "demo")

    run.write_status("failed", "no luck", epoch=3)

    assert json.loads(run.status.read_text()) == {"state": "failed", "reason": "no luck", "epoch": 3}
    assert run.state() == "failed"


def test_a_folder_in_use_by_another_process_is_refused_and_its_holder_named(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from vwmm.config.run_folder import RunFolder;"
        f"held = RunFolder(Path({str(tmp_path / 'demo')!r})).lock(); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdin is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=f"demo is in use by process {holder.pid} on {os.uname().nodename}: wait"):
            RunFolder(tmp_path / "demo").lock()
    finally:
        holder.stdin.close()
        holder.wait(timeout=30)
        holder.stdout.close()
    with RunFolder(tmp_path / "demo").lock():
        assert (tmp_path / "demo" / ".lock").read_text().startswith(f"process {os.getpid()} on")


def test_a_folder_that_cannot_be_made_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    config = configured(tmp_path / "runs")

    with pytest.raises(UserError, match=r"run\.dir: .*runs/demo cannot be written: "):
        choose_run_folder(config).lock()


def test_a_disk_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("vwmm.config.run_folder.fcntl.flock", no_locks)

    with pytest.raises(UserError, match=r"cannot be locked \(Function not implemented\)"):
        RunFolder(tmp_path / "demo").lock()


def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "a.txt"
    write_whole(path, "first")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for stage in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, stage, interrupt)
            with pytest.raises(KeyboardInterrupt):
                write_whole(path, "second")
        assert path.read_text() == "first"
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\udcff")

    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]
    write_whole(path, b"\xff")
    assert path.read_bytes() == b"\xff"


def test_a_file_is_readable_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)

    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_a_saved_configuration_compares_equal_to_what_it_was_made_from(tmp_path: Path) -> None:
    config = configured(tmp_path, "train.lr=1e-05", "train.max_grad_norm=1e16", "data.labels=[no, 007, 1.50]")
    write_whole(tmp_path / "config.yaml", to_yaml(config))

    assert compare_configs(read_saved_config(tmp_path / "config.yaml"), config.model_dump(mode="json")) == []


def test_run_beside_a_finished_one_of_its_name_notes_the_new_start(tmp_path: Path) -> None:
    first = make_run(configured(tmp_path, "train.epochs=10"), "demo", "done")
    for overrides, expected in (
        (
            ["train.epochs=20"],
            "is not continued where it is asked for another number of epochs (was 10, is 20): demo-2",
        ),
        (["train.epochs=10"], "stays as it is: demo-2 is a run of its own, from the start"),
    ):
        config = configured(tmp_path, *overrides)
        run = choose_run_folder(config)
        assert f"{first.path} is finished" in str(finished_before(run, config))
        assert expected in str(finished_before(run, config))
    assert finished_before(first, configured(tmp_path)) is None


@pytest.mark.parametrize("content", [None, "", "{", "[1]", "null"])
def test_absent_or_damaged_environment_is_read_as_empty(content: str | None, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    if content is not None:
        run.environment.write_text(content)
    assert run.read_environment() == {}
    run.environment.write_text('{"classes": ["a"]}')
    assert run.read_environment() == {"classes": ["a"]}
