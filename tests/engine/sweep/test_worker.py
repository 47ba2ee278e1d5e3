"""The workers of a sweep, with a training that takes no time: who does which trial, and what is drawn for it."""

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import vwmm.engine.sweep.worker
from tests.conftest import TINY
from vwmm.config.loading import load_config
from vwmm.config.run_folder import RunFolder
from vwmm.config.search_space import Searched, Space, read_space
from vwmm.engine.checkpoints.checkpoint import write_checkpoint
from vwmm.engine.checkpoints.state import Progress, State
from vwmm.engine.sweep.plan import Sweep, plan_sweep
from vwmm.engine.sweep.study import COMPLETE, JournalLock, SweepStudy
from vwmm.engine.sweep.worker import Worker, run_worker, wait_until_free
from vwmm.system.errors import AlreadyReported, RunError, StoppedEarly, UserError

SPACE = "metric: loss\nparameters: {train.lr: {low: 1e-5, high: 1e-1, log: true}, model.dropout: {low: 0, high: 0.7}}\n"
EPOCHS = 4


class FakeTraining:
    """In the place of `launch`: writes what a run writes; its loss is a function of the configuration."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        """Exit codes of the next trainings; 0 after that."""
        self.runs: list[Path] = []
        """The run folders, as they were trained."""
        self.loss: Callable[[Any, int], float | None] = lambda config, epoch: abs(config.train.lr - 1e-3) + 1 / epoch
        self.during: Callable[[RunFolder], None] = lambda run: None

    def __call__(
        self, script: Path, arguments: list[str], launch_file: str | None, *, watch: Callable[[], bool]
    ) -> int:
        config = load_config([], [word for word in arguments if word != "--config"])
        run = RunFolder(Path(config.run.dir) / str(config.run.name))
        self.runs.append(run.path)
        run.path.mkdir(parents=True, exist_ok=True)
        run.config.write_text(json.dumps(config.model_dump(mode="json")))
        self.during(run)
        if code := self.codes.pop(0) if self.codes else 0:
            run.write_status("failed" if code == 1 else "preempted", "a rehearsed end")
            return code
        losses = [self.loss(config, epoch) for epoch in range(1, EPOCHS + 1)]
        for epoch, loss in enumerate(losses, 1):
            with run.metrics.open("a") as stream:
                stream.write(json.dumps({"event": "validation", "epoch": epoch, "step": epoch, "loss": loss}) + "\n")
            if watch():
                return 75
        known = [(loss, epoch) for epoch, loss in enumerate(losses, 1) if loss is not None]
        loss, epoch = min(known) if known else (None, 1)
        meta = {"classes": ["a", "b"], "validation": {"loss": loss, "epoch": epoch, "cases": 7}}
        write_checkpoint(run.best, State({"w": torch.zeros(1)}, Progress(epoch=epoch), meta))
        run.write_status("done")
        return 0


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> FakeTraining:
    fake = FakeTraining()
    monkeypatch.setattr(vwmm.engine.sweep.worker, "launch", fake)
    monkeypatch.setattr(vwmm.engine.sweep.worker, "_LOOK_EVERY_S", 0.0)
    return fake


def plan(cohort: Path, cwd: Path, *arguments: str, space: str = SPACE, trials: int = 6, startup: int = 2,
         is_pruned: bool = False) -> Sweep:  # fmt: skip
    cwd.mkdir(exist_ok=True)
    (cwd / "space.yaml").write_text(space)
    overrides = [f"data.csv={cohort}", *TINY, f"train.epochs={EPOCHS}", f"run.dir={cwd}", "run.name=s", *arguments]
    config, found = load_config([], overrides), read_space(str(cwd / "space.yaml"), [], overrides)
    return plan_sweep(config, found, [], overrides, num_trials=trials, startup=startup, is_pruned=is_pruned)


def work(sweep: Sweep) -> str:
    return run_worker(sweep, Path("train.py"), None)


def table(sweep: Sweep) -> list[list[str]]:
    return [line.split(",") for line in (sweep.folder / "trials.csv").read_text().splitlines()[1:]]


@contextmanager
def worker_of(sweep: Sweep) -> Iterator[Worker]:
    worker = Worker(sweep, Path("train.py"), None, [])
    yield worker
    worker.locks.close()


def test_the_same_command_draws_the_same_trials(training: FakeTraining, cohort: Path, tmp_path: Path) -> None:
    first, second, other = (
        plan(cohort, tmp_path / name, f"train.seed={seed}") for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    for sweep in (first, second, other):
        work(sweep)
    assert table(first) == table(second)
    assert [row[5:7] for row in table(first)] != [row[5:7] for row in table(other)]
    assert len({row[5] for row in table(first)}) == 6


def test_it_matters_not_how_often_the_worker_was_started(training: FakeTraining, cohort: Path, tmp_path: Path) -> None:
    whole, parts = plan(cohort, tmp_path / "whole"), plan(cohort, tmp_path / "parts")
    work(whole)
    training.codes = [0, 75, 0, 0, 75, 0]
    for _ in range(2):
        with pytest.raises(AlreadyReported) as told:
            work(parts)
        assert told.value.code == 75
    work(parts)
    assert table(parts) == table(whole)


def test_later_trials_learn_from_the_first(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("parameters: {model.dropout: {low: 0, high: 0.7}}\n")
    space = read_space(str(tmp_path / "space.yaml"), [], [])
    study = SweepStudy(tmp_path / "journal", space, seed=0, startup=10, is_pruned=False)
    losses = list[float]()
    for _ in range(30):
        number = study.add()
        losses.append(abs(study.values(number)["model.dropout"] - 0.5))
        study.tell(number, COMPLETE, losses[-1])
    assert sum(losses[20:]) < sum(losses[:10]) / 2


def test_workers_never_share_a_trial_nor_make_one_too_many(
    training: FakeTraining, cohort: Path, tmp_path: Path
) -> None:
    sweep = plan(cohort, tmp_path, trials=3)
    with worker_of(sweep) as a, worker_of(sweep) as b, worker_of(sweep) as c, worker_of(sweep) as d:
        with a._claimed() as one, b._claimed() as two, c._claimed() as three, d._claimed() as four:
            assert (one, two, three, four) == (0, 1, 2, None)
        with d._claimed() as again:
            assert again == 0, "nobody works on it any more"
        assert len(d.study.trials()) == 3


def test_more_trials_may_be_asked_for_later(training: FakeTraining, cohort: Path, tmp_path: Path) -> None:
    work(plan(cohort, tmp_path, trials=2))
    said = work(plan(cohort, tmp_path, trials=3))
    assert "trials   3 of 3: 3 complete" in said
    assert [path.name for path in training.runs] == ["trial-0000", "trial-0001", "trial-0002"]
    work(plan(cohort, tmp_path, trials=1))
    assert len(training.runs) == 3


def test_a_trial_that_was_done_when_its_worker_died_is_not_trained_again(
    training: FakeTraining, cohort: Path, tmp_path: Path
) -> None:
    sweep = plan(cohort, tmp_path, trials=1)
    with worker_of(sweep) as worker, worker._claimed() as number:
        assert number == 0
        arguments = [*sweep.overrides, *sweep.trial_overrides(0, worker.study.values(0))]
        training(Path("train.py"), arguments, None, watch=lambda: False)
    work(sweep)
    assert len(training.runs) == 1
    assert table(sweep)[0][1] == "complete"


def test_a_run_that_was_finished_with_other_values_is_not_taken_for_the_trial(
    training: FakeTraining, cohort: Path, tmp_path: Path
) -> None:
    sweep = plan(cohort, tmp_path, trials=1)
    work(sweep)
    (sweep.folder / "sweep.journal").unlink()
    with pytest.raises(UserError, match=r"trial-0000 is finished with another configuration: train.lr: was"):
        work(plan(cohort, tmp_path, "train.seed=1", trials=1))


def test_a_worker_that_died_while_it_wrote_leaves_no_half_a_trial(
    training: FakeTraining, cohort: Path, tmp_path: Path
) -> None:
    sweep, whole = plan(cohort, tmp_path / "x", trials=2), plan(cohort, tmp_path / "whole", trials=2)
    work(whole)
    with worker_of(sweep) as worker:
        worker.study.add()
    journal = sweep.folder / "sweep.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert b"train.lr" in lines[-1]
    assert b"model.dropout" in lines[-1], "all of it in one line"
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    work(sweep)
    assert table(sweep) == table(whole)


def test_a_failed_trial_has_its_reason_and_three_in_a_row_end_the_sweep(
    training: FakeTraining, cohort: Path, tmp_path: Path
) -> None:
    sweep = plan(cohort, tmp_path, trials=9)
    training.codes = [1, 1, 0, 1, 1, 1]
    with pytest.raises(RunError, match="3 trials in a row have failed, the last one because of this: a rehearsed end"):
        work(sweep)
    assert [row[1] for row in table(sweep)] == ["failed", "failed", "complete", "failed", "failed", "failed"]
    assert table(sweep)[0][-1] == "a rehearsed end"
    assert "a rehearsed end" not in (sweep.folder / "report.html").read_text(), "it may name cases"
    training.codes = [1]
    work(sweep)  # the user has mended it: three more tries
    assert len(table(sweep)) == 9


def test_if_all_have_failed_the_sweep_has(training: FakeTraining, cohort: Path, tmp_path: Path) -> None:
    training.codes = [1, 1]
    with pytest.raises(RunError, match="none of 2 trials is complete"):
        work(plan(cohort, tmp_path, trials=2))


def test_a_value_that_does_not_exist_is_a_failure(training: FakeTraining, cohort: Path, tmp_path: Path) -> None:
    training.loss = lambda config, epoch: None
    sweep = plan(cohort, tmp_path, trials=1)
    with pytest.raises(RunError):
        work(sweep)
    assert table(sweep)[0][-1] == "loss does not exist on these validation cases"


@pytest.mark.parametrize(("key", "value"), [("train.batch_size", "7"), ("train.warmup_steps", "4000")])
def test_values_that_do_not_go_together_are_a_failure(
    key: str, value: str, training: FakeTraining, cohort: Path, tmp_path: Path
) -> None:
    """Of a large space not all combinations are checked ahead of time."""
    unchecked = Space("loss", (Searched(key, "choice", choices=(value,)),))
    sweep = plan(cohort, tmp_path, trials=4)
    sweep = plan_sweep(sweep.config, unchecked, [], sweep.overrides, num_trials=4, startup=2, is_pruned=False)
    with pytest.raises(RunError, match=r"3 trials in a row have failed, .*(multiple of|not below)"):
        work(sweep)
    assert training.runs == []


def test_wrong_input_ends_the_sweep_and_the_trial_waits(training: FakeTraining, cohort: Path, tmp_path: Path) -> None:
    sweep = plan(cohort, tmp_path)
    training.codes = [2]
    with pytest.raises(AlreadyReported) as told:
        work(sweep)
    assert told.value.code == 2
    work(sweep)
    assert [path.name for path in training.runs[:2]] == ["trial-0000"] * 2


def test_a_signal_between_two_trials_ends_the_worker(training: FakeTraining, cohort: Path, tmp_path: Path) -> None:
    sweep, signals = plan(cohort, tmp_path), list[int]()
    training.during = lambda run: signals.append(10)
    worker = Worker(sweep, Path("train.py"), None, signals)
    with pytest.raises(StoppedEarly):
        worker.work()
    worker.locks.close()
    assert [row[1] for row in table(sweep)] == ["complete"]


def test_a_hopeless_trial_is_given_up(training: FakeTraining, cohort: Path, tmp_path: Path) -> None:
    """In the first epoch that is worse than the median of those before it."""
    levels = iter([1.0, 1.0, 9.0, 0.5])
    training.during = lambda run: setattr(training, "level", next(levels))
    training.loss = lambda config, epoch: training.level  # type: ignore[attr-defined]
    sweep = plan(cohort, tmp_path, trials=4, is_pruned=True)
    assert "trials   4 of 4: 3 complete, 1 pruned" in work(sweep)
    assert [(row[1], row[3]) for row in table(sweep)] == [
        ("complete", "4"), ("complete", "4"), ("pruned", "1"), ("complete", "4"),
    ]  # fmt: skip
    assert not (sweep.run(2).path / "checkpoints").exists()


def test_no_trial_is_given_up_while_it_warms_up(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("metric: auroc\nparameters: {model.dropout: {low: 0, high: 0.7}}\n")
    space = read_space(str(tmp_path / "space.yaml"), [], [])
    study = SweepStudy(tmp_path / "journal", space, seed=0, startup=1, is_pruned=True)
    study.tell(study.add(), COMPLETE, 0.9)  # it has no epochs to compare with
    for value in (0.8, 0.1):
        number = study.add()
        said = [study.report(number, epoch, value, warmup=2) for epoch in range(1, 5)]
        study.tell(number, COMPLETE, value)
    assert said == [False, False, True, True]


def test_a_trial_waits_for_the_processes_that_a_dead_worker_left(
    training: FakeTraining, cohort: Path, tmp_path: Path
) -> None:
    sweep = plan(cohort, tmp_path, trials=1)
    held = sweep.run(0).lock()
    was_held = list[bool]()
    training.during = lambda run: was_held.append(not held.closed)
    timer = threading.Timer(1.0, held.close)
    timer.start()
    work(sweep)
    assert was_held == [False]
    with sweep.run(1).lock(), pytest.raises(StoppedEarly):
        wait_until_free(sweep.run(1), [10])


def test_another_space_configuration_or_cohort_is_refused(training: FakeTraining, cohort: Path, tmp_path: Path) -> None:
    work(plan(cohort, tmp_path, trials=1))
    changed = SPACE.replace("0.7", "0.5").replace("loss", "accuracy")
    with pytest.raises(UserError) as caught:
        work(plan(cohort, tmp_path, "train.batch_size=4", "train.lr=0.5", "train.log_every=3", space=changed))
    said = str(caught.value)
    assert "space: metric: was loss, is accuracy" in said
    assert "space: model.dropout: was float, low: 0.0, high: 0.7, is float, low: 0.0, high: 0.5" in said
    assert "configuration: train.batch_size: was 8, is 4" in said
    assert "train.lr" not in said, "it is searched"
    assert "train.log_every" not in said, "it changes nothing"
    shorter = cohort.with_name("shorter.csv")
    shorter.write_text("".join(cohort.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match="have changed"):
        work(plan(shorter, tmp_path))


def test_a_run_is_no_sweep(training: FakeTraining, cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "config.yaml").write_text("")
    with pytest.raises(UserError, match="is a run, not a sweep"):
        plan(cohort, tmp_path)


@pytest.mark.parametrize("name", ["trials.csv", "best.yaml", "report.html", "sweep.journal"])
def test_a_folder_in_the_place_of_a_file_is_named_before_anything_is_trained(
    name: str, training: FakeTraining, cohort: Path, tmp_path: Path
) -> None:
    sweep = plan(cohort, tmp_path, trials=1)
    (sweep.folder / name).mkdir(parents=True)
    with pytest.raises(UserError, match=re.escape(str(sweep.folder / name))):
        work(sweep)
    assert not training.runs


def test_a_folder_that_cannot_be_made_is_the_users_mistake(
    training: FakeTraining, cohort: Path, tmp_path: Path
) -> None:
    sweep = plan(cohort, tmp_path, trials=1)
    sweep.folder.touch()
    with pytest.raises(UserError, match=r"run\.dir: .*/s cannot be made: File exists"):
        work(sweep)


def test_half_a_line_of_the_journal_is_cut_off_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    for content, kept in [(b"", b""), (b'{"a"', b""), (b"{}\n", b"{}\n"), (b"{}\n" + b"x" * 9000, b"{}\n")]:
        path.write_bytes(content)
        lock = JournalLock(path)
        lock.acquire()
        lock.release()
        assert path.read_bytes() == kept


@pytest.mark.parametrize(
    "line", [b"x\n", b"[]\n", b"\x80\x04\x95\n", b"[" * 10**5 + b"\n", b'{"op_code": 99}\n', b"{}\n"]
)
def test_a_damaged_journal_is_named(line: bytes, cohort: Path, training: FakeTraining, tmp_path: Path) -> None:
    sweep = plan(cohort, tmp_path, trials=1)
    work(sweep)
    journal = sweep.folder / "sweep.journal"
    journal.write_bytes(journal.read_bytes() + line)
    with pytest.raises(UserError, match=r"sweep\.journal"):
        work(sweep)


def test_without_optuna_the_extra_is_named(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "vwmm.engine.sweep.study")
    with pytest.raises(UserError, match=r"a sweep needs Optuna .*\[sweep\]"):
        plan(cohort, tmp_path)
