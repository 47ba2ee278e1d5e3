"""Search spaces: what is read, and mistakes said all at once with file, line, key and the nearest one."""

from pathlib import Path

import pytest

from tests.conftest import ROOT, texts
from vwmm.config.loading import load_config
from vwmm.config.search_space import Searched, Space, read_space
from vwmm.system.errors import UserError

SPACES = sorted((ROOT / "configs" / "spaces").glob("*.yaml"))


def read(tmp_path: Path, text: str, *overrides: str) -> Space:
    file = tmp_path / "space.yaml"
    file.write_text(text, encoding="utf-8")
    return read_space(str(file), [], overrides)


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.name)
def test_every_space_that_ships_is_one_over_every_configuration_that_ships(path: Path) -> None:
    for config in sorted((ROOT / "configs").glob("*.yaml")):
        assert len(read_space(str(path), [str(config)], []).searched) > 2


def test_a_key_decides_what_is_drawn_for_it(tmp_path: Path) -> None:
    space = read(
        tmp_path,
        """
        metric: auroc
        parameters:
          train.lr: {low: 1e-5, high: 1e-2, log: true}
          train.weight_decay: {low: 0, high: 1}
          train.batch_size: {low: 4, high: 16, step: 4}
          model.hidden: {choices: [[64], [], [512, 256]]}
          train.exact: {choices: [true, false]}
          train.max_grad_norm: {choices: [null, 1]}
          augment.all.rotate_deg: {low: 0, high: 30}
        """,
    )

    assert (space.metric, space.is_minimized) == ("auroc", False)
    assert space.searched == (
        Searched("train.lr", "float", 1e-5, 1e-2, log=True),
        Searched("train.weight_decay", "float", 0, 1),
        Searched("train.batch_size", "int", 4, 16, step=4),
        Searched("model.hidden", "choice", choices=("[64]", "[]", "[512, 256]")),
        Searched("train.exact", "choice", choices=("true", "false")),
        Searched("train.max_grad_norm", "choice", choices=("null", "1.0")),
        Searched("augment.all.rotate_deg", "float", 0, 30),
    )


def test_of_many_whole_numbers_the_ends_are_checked(tmp_path: Path) -> None:
    space = read(
        tmp_path, "parameters: {train.epochs: {low: 1, high: 4000}, train.warmup_steps: {low: 1, high: 64, log: true}}"
    )

    assert [one.tried() for one in space.searched] == [["1", "4000"], ["1", "64"]]


def test_drawn_value_equals_that_of_the_configuration(tmp_path: Path) -> None:
    space = read(
        tmp_path, "parameters: {train.lr: {low: 1e-9, high: 1}, model.hidden: {choices: [[64]]}}", "train.monitor=auroc"
    )

    config = load_config([], space.overrides({"train.lr": 1.234567890123456e-07, "model.hidden": "[64]"}))

    assert (config.train.lr, config.model.hidden) == (1.234567890123456e-07, [64])
    assert config.train.monitor == space.metric == "auroc", "without a metric it is the configuration's"


WRONG = {
    "train.lr: {low: 1e-5, hihg: 1}": "train.lr.hihg: no such key; did you mean parameters.train.lr.high?",
    "train.lrr: {low: 1e-5, high: 1}": "train.lrr: no such key; did you mean train.lr?",
    "model.dropout: {low: 0, high: 1.7}": "model.dropout: expected a number less than 1, found 1.7",
    "model.dropout: {low: -1, high: 0.5}": "model.dropout: expected a number greater than or equal to 0, found -1",
    "model.backbone: {choices: [resnet10, resent18]}": "found resent18",
    "model.backbone: {low: 1, high: 2}": "model.backbone: expected 'densenet121'",
    "model.hidden: {low: 1, high: 2}": "model.hidden: expected a valid list, found 1",
    "train.exact: {low: 0, high: 1}": "train.exact: takes no range of numbers; use choices",
    "train.epochs: {low: 1.5, high: 3}": "train.epochs: expected a valid integer, found 1.5",
    "train.epochs: {low: 1, high: 3, step: 0.5}": "step: expected a whole number",
    "train.epochs: {low: 9, high: 3}": "low: expected a number less than high (3), found 9",
    "train.lr: {low: 0, high: 1, log: true}": "low: expected a number greater than 0 with log: true",
    "train.lr: {low: 0.1, high: 1, log: true, step: 0.1}": "step: does not go with log: true",
    "train.lr: {low: 0.1}": "high: this key is required, or choices",
    "train.lr: {choices: [0.1], low: 0.1}": "low: choices stand alone",
    "train.lr: {choices: [1e-1, 0.1]}": "the choice 0.1 is given twice",
    "train.lr: {choices: []}": "expected at least 1 item",
    "train.lr: {low: true, high: 2}": "low: expected a number, found true",
    "train.lr: 0.1": "train.lr: expected a section with the keys of Parameter, found 0.1",
    "train: {choices: [1]}": "parameters.train: expected a dotted key of the configuration, such as train.lr",
    "data.csv: {choices: [a]}": "data.csv: only keys of model, augment, train can be searched",
    "run.name: {choices: [a]}": "run.name: only keys of",
    "train.seed: {low: 0, high: 9}": "train.seed: a seed that is chosen by its validation score is chosen for its luck",
    "train.monitor: {choices: [loss]}": "train.monitor: `metric` of the space sets it",
    "train.num_workers: {low: 0, high: 2}": "train.num_workers: does not change the result",
    "train.batch_size: {low: 4, high: 8, step: 1}": "batch_size (5) must be a multiple of micro_batch_size (2)",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_mistake_is_said_with_its_place(line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, f"metric: loss\nparameters:\n  {line}\n  model.norm: {{choices: [batch]}}\n")

    assert [problem for problem in texts(caught.value.problems) if WRONG[line] in problem], texts(caught.value.problems)
    for problem in texts(caught.value.problems):
        assert problem.startswith(f"{tmp_path}/space.yaml line 3: ")


def test_all_mistakes_are_said_at_once(tmp_path: Path) -> None:
    # `train.exact` twice the same and `train` without a dot are said beside others
    lines = [line for line in WRONG if line.count(":") and not line.startswith("train.lr:")]
    lines = list({line.split(":")[0]: line for line in lines}.values())
    with pytest.raises(UserError) as caught:
        read(tmp_path, "metrik: loss\nparameters:\n" + "".join(f"  {line}\n" for line in lines))

    for line in lines:
        assert any(WRONG[line] in problem for problem in texts(caught.value.problems)), line
    assert any("metrik: no such key; did you mean metric?" in problem for problem in texts(caught.value.problems))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "parameters: this key is required"),
        ("parameters: {}", "parameters: expected at least 1 item"),
        ("- 1", "expected `metric:` and `parameters:`, found [1]"),
        ("a: [", "not valid YAML"),
        ("metric: f1\nparameters: {train.lr: {choices: [1]}}", "metric: expected 'loss', 'accuracy'"),
        ("parameters: {train.lr: {choices: [1]}, train.lr: {choices: [2]}}", "train.lr: already given in line 1"),
        ("parameters: !!python/object/apply:os.getcwd []", "not valid YAML: tags such as"),
    ],
)
def test_a_file_that_is_no_space(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"space\.yaml") as caught:
        read(tmp_path, text)
    assert message in str(caught.value)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UserError, match=r"--space nowhere\.yaml: file not found"):
        read_space("nowhere.yaml", [], [])


def test_values_that_are_impossible_together_are_found(tmp_path: Path) -> None:
    text = "parameters: {train.batch_size: {choices: [8, 12]}, train.micro_batch_size: {choices: [2, 8]}}"
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)

    assert len(texts(caught.value.problems)) == 1
    assert "train.batch_size=12 with train.micro_batch_size=8: " in texts(caught.value.problems)[0]


def test_mistakes_of_the_configuration_are_not_those_of_the_space(tmp_path: Path) -> None:
    assert read(tmp_path, "parameters: {train.lr: {choices: [1]}}", "train.epochs=none", "modle.norm=batch").searched
