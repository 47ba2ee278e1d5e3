"""The final summary of a run, and the cases that its report shows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vwmm.config.run_folder import RunFolder
from vwmm.engine.runs.finish_run import choose_examples, describe_result, unusable_best


class Cases:
    """Images of cases, each a constant that tells which one it is; the last case has none."""

    modalities = ("ct",)

    def __init__(self, names: list[str]) -> None:
        self.cases = [type("Case", (), {"name": name}) for name in names]

    def image(self, index: int, name: str) -> np.ndarray | None:
        return None if index == len(self.cases) - 1 else np.full((1, 2, 2), index, dtype=np.float32)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Twelve cases: five wrong ones, seven right ones of two classes."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    rows = ["case,patient,label,predicted,p_a,p_b,present_ct"]
    wrong = {"w1": 0.6, "w2": 0.9, "w3": 0.7, "w4": 0.95, "w5": 0.55}
    rows += [f"{name},{name},b,a,{p},{1 - p:.2f},1" for name, p in wrong.items()]
    rows += [f"r{n},r{n},{label},{label},{p},{1 - p:.2f},1" for n, label, p in ((1, "a", 0.8), (2, "a", 0.9))]
    rows += [f"r{n},r{n},b,b,{1 - p:.2f},{p},1" for n, p in ((3, 0.8), (4, 0.9))]
    rows += [f"r{n},r{n},a,a,0.7,0.30,1" for n in (5, 6, 7)]
    run.predictions.write_text("\n".join(rows) + "\n")
    return run


def test_examples_are_the_most_confident_errors_and_one_right_case_of_each_class(run: RunFolder) -> None:
    dataset: Any = Cases(["w1", "w2", "w3", "w4", "w5", "r1", "r2", "r3", "r4", "r5", "r6", "r7"])

    examples = choose_examples(run, dataset)

    assert [(one.label, one.predicted, one.probability) for one in examples] == [
        ("b", "a", 0.95), ("b", "a", 0.9), ("b", "a", 0.7), ("a", "a", 0.8), ("b", "b", 0.8),
    ]  # fmt: skip
    assert [one.title for one in examples] == [f"Example {number}" for number in range(1, 6)]  # no name of a case


def test_result_counts_cases_with_an_interval_and_says_where_the_page_is(run: RunFolder) -> None:
    best = {"accuracy": 7 / 12, "cases": 12, "auroc": None, "loss": 1.25, "epoch": 3}

    lines = describe_result(run, best).splitlines()

    assert lines[-3].startswith("result   accuracy 0.583 (7 of 12 validation cases, 95 % interval ")
    assert lines[-3].endswith("), loss 1.2500, best epoch 3")
    assert lines[-2:] == [f"run      {run.path}", f"report   {run.report}"]


def test_best_checkpoint_is_missed_only_in_a_run_that_is_done(run: RunFolder) -> None:
    run.write_status("running", epoch=0, step=3)
    assert unusable_best(run) == []

    run.write_status("done", epoch=2, step=8)
    (missing,) = unusable_best(run)

    assert missing.startswith("checkpoints/best cannot be used: it is missing")
