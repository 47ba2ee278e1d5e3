"""Configurations: the order of precedence, and mistakes said with their place and the nearest key."""

import re
import time
from pathlib import Path

import pytest

from tests.conftest import texts
from vwmm.config.loading import find_shipped, load_config, read_config
from vwmm.config.messages import all_keys
from vwmm.config.printing import to_yaml
from vwmm.config.schema import DEFAULT_MODALITIES, Config
from vwmm.system.errors import UserError
from vwmm.system.problems import printable


def problems_of(*overrides: str, files: list[Path] | None = None) -> list[str]:
    """What is wrong, without raising."""
    return texts(read_config(files or [], overrides).problems)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# --- order and merging ---------------------------------------------------------------------------------------------


def test_defaults_then_files_then_arguments(tmp_path: Path) -> None:
    first = write(tmp_path / "first.yaml", "train: {epochs: 3, batch_size: 8, lr: 0.1}")
    second = write(tmp_path / "second.yaml", "train: {epochs: 4, batch_size: 4}")

    train = load_config([first, second], ["train.batch_size=6"]).train

    assert (train.momentum, train.lr, train.epochs, train.batch_size) == (0.9, 0.1, 4, 6)


def test_without_anything_the_defaults_come_out() -> None:
    config = load_config()

    assert config.model_copy(update={"run": Config().run, "cache": Config().cache}) == Config()
    assert config.run.name == "run"


def test_a_later_argument_beats_an_earlier_one_and_sections_are_merged() -> None:
    config = load_config([], ["train={epochs: 2, lr: 0.5}", "train.epochs=3"])

    assert (config.train.epochs, config.train.lr) == (3, 0.5)


def test_a_list_is_replaced_as_a_whole(tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml", "model: {hidden: [1, 2, 3]}")

    assert load_config([file], ["model.hidden=[7]"]).model.hidden == [7]


def test_the_run_is_named_after_the_last_file(tmp_path: Path) -> None:
    files = [write(tmp_path / name, "") for name in ("first.yaml", "_second run.v2.yaml")]

    assert load_config(files).run.name == "second_run.v2"
    assert load_config(files, ["run.name=mine"]).run.name == "mine"
    assert load_config([write(tmp_path / f"{'x' * 200}.yaml", "")]).run.name == "x" * 100


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")

    config = load_config([], ["data.csv=a/b.csv", "data.root=../images", "run.dir=~/runs"])

    assert config.data.csv == str(tmp_path / "a" / "b.csv")
    assert config.data.root == str(tmp_path.parent / "images")
    assert config.cache.dir == str(tmp_path / "cache")
    assert config.run.dir == "/home/someone/runs"


def test_what_comes_with_vwmm_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    found = find_shipped("configs/demo.yaml")

    assert found is not None
    assert found.is_file()
    assert find_shipped("configs/nothing.yaml") is None
    assert find_shipped("x" * 5000) is None
    assert find_shipped("~nobody_of_this_name/a.yaml") is None


# --- modalities ----------------------------------------------------------------------------------------------------


def test_modalities_of_a_file_replace_the_default_three(tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml", "modalities: {t1: {dims: 3, size: [64, 64, 32]}, ct: {}}")

    modalities = load_config([file]).modalities

    assert list(modalities) == ["t1", "ct"]
    assert modalities["ct"].window_hu == DEFAULT_MODALITIES["ct"]["window_hu"]
    assert modalities["ct"].size == [128, 128]


def test_later_files_and_arguments_change_the_modalities(tmp_path: Path) -> None:
    first = write(tmp_path / "a.yaml", "modalities: {t1: {dims: 3, size: [64, 64, 32]}, ct: {slice: 2}}")
    second = write(tmp_path / "b.yaml", "modalities: {ct: {size: [32, 32]}, t2: {dims: 2, size: [32, 32]}}")

    modalities = load_config([first, second], ["modalities.t1.size=[32,32,32]"]).modalities

    assert list(modalities) == ["t1", "ct", "t2"]
    assert (modalities["ct"].slice, modalities["ct"].size, modalities["t1"].size) == (2, [32, 32], [32, 32, 32])


def test_arguments_alone_change_or_extend_the_default_three() -> None:
    config = load_config([], ["modalities.mri.size=[64,64]", "modalities.pet={dims: 2, size: [32, 32]}"])

    assert list(config.modalities) == ["vw_mri", "mri", "ct", "pet"]
    assert config.modalities["mri"].dims == 2


def test_null_takes_a_modality_away(tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml", "modalities: {t1: {dims: 3, size: [64, 64, 32]}, ct: {}}")

    assert list(load_config([], ["modalities.ct=null"]).modalities) == ["vw_mri", "mri"]
    assert list(load_config([file], ["modalities.ct=null"]).modalities) == ["t1"]
    assert problems_of("modalities.vw_mri=null", "modalities.mri=null", "modalities.ct=null") == [
        "argument modalities.ct=null: modalities: expected at least 1 item, found {}"
    ]


def test_a_misspelt_modality_has_a_hint() -> None:
    (problem,) = problems_of("modalities.vw_mr.size=[32,32,32]")

    assert "modalities.vw_mr.dims: this key is required; did you mean modalities.vw_mri?" in problem


def test_all_modalities_with_missing_requirements_are_named() -> None:
    arguments = ["modalities.a.dims=2", "modalities.b.size=[32,32]", "modalities.c=5", "train.epochs=0"]

    found = problems_of(*arguments)

    assert sorted(problem.removeprefix("argument ").split(": ", 1)[1] for problem in found) == [
        "modalities.a.size: this key is required",
        "modalities.b.dims: this key is required",
        "modalities.c: expected a section with the keys of Modality, found 5",
        "train.epochs: expected a number greater than or equal to 1, found 0",
    ]


# --- values --------------------------------------------------------------------------------------------------------


def test_a_text_stays_the_text_that_it_is(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.yaml", "data: {labels: [2026-01-31, 010, 2.10, no, 1:30, 1e3, 7]}\nrun: {name: 2026-02-01}"
    )

    config = load_config([file])

    assert config.data.labels == ["2026-01-31", "010", "2.10", "no", "1:30", "1e3", "7"]
    assert config.run.name == "2026-02-01"


@pytest.mark.parametrize(("text", "value"), [("1e-4", 1e-4), ("1.5E-3", 1.5e-3), (".5", 0.5), ("2", 2.0), ("1", 1.0)])
def test_numbers_are_numbers_however_they_are_written(text: str, value: float) -> None:
    lr = load_config([], [f"train.lr={text}"]).train.lr

    assert (lr, type(lr)) == (value, float)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("no", False), ("off", False), ("yes", True)])
def test_switches_take_the_usual_words(text: str, value: bool) -> None:
    assert load_config([], [f"split.stratified={text}"]).split.stratified is value


def test_aliases_and_merge_keys_are_read(tmp_path: Path) -> None:
    text = "modalities:\n  t1: &mr {dims: 2, size: [64, 64], slice: 3}\n  t2: *mr\n  t3: {<<: *mr, slice: 4}\n"

    modalities = load_config([write(tmp_path / "a.yaml", text)]).modalities

    assert modalities["t1"] == modalities["t2"]
    assert (modalities["t3"].size, modalities["t3"].slice) == ([64, 64], 4)


# --- mistakes ------------------------------------------------------------------------------------------------------

MISTAKES = {
    "train.epoch=3": "train.epoch: no such key; did you mean train.epochs?",
    "epochs=3": "epochs: no such key; did you mean train.epochs?",
    "batchsize=3": "batchsize: no such key; did you mean train.batch_size?",
    "model.weight_decay=0": "model.weight_decay: no such key; did you mean train.weight_decay?",
    "modalities.ct.windw=[1,2]": "modalities.ct.windw: no such key; did you mean modalities.ct.window_hu?",
    "trian.epochs=3": "trian: no such key; did you mean train?",
    "cache.qqq=3": "cache.qqq: no such key; the keys here are dir, dtype, mode, on_device, workers",
    "train.epochs=0": "train.epochs: expected a number greater than or equal to 1, found 0",
    "train.epochs=2.5": "train.epochs: expected a valid integer, found 2.5",
    "train.epochs=": "train.epochs: expected a valid integer, found nothing",
    "train.epochs=true": "train.epochs: expected another kind of value than true/false (put a text in quotes)",
    "model.hidden=[true]": "model.hidden: expected another kind of value than true/false",
    "data.labels=[true,false]": "data.labels: expected another kind of value than true/false",
    "train.lr=fast": "train.lr: expected a valid number, found fast",
    "train.lr=.inf": "train.lr: expected a valid number, found .inf",
    "train.lr=nan": "train.lr: expected a finite number, found nan",
    "train=5": "train: expected a section with the keys of Train, found 5",
    "modalities=null": "modalities: expected a section, found nothing",
    "train.optimizer=lion": "train.optimizer: expected 'adam', 'adamw' or 'sgd', found lion",
    "modalities.mri.size=[0,64]": "modalities.mri.size: expected a number greater than or equal to 1, found 0",
    "model.features=x": "model.features: expected a valid integer or 'backbone' or 'classes', found x",
    "data.csv=[1]": "data.csv: expected a text, found [1]",
    "data.csv=''": "data.csv: expected a path, found nothing",
    'cache.dir="a\\0b"': r"cache.dir: expected a path, found a\x00b",
    "run.name=../x": "run.name: expected a name of letters, digits, '_' and '-', beginning with a letter or digit",
    "modalities.a b={dims: 2, size: [32, 32]}": "modalities.a b: expected a name of letters, digits, '_' and '-'",
    "modalities.ct.orientation=RAX": "modalities.ct.orientation: expected three axis codes",
    "split={1: 2}": "split.1: expected a text as the key, found 1",
    "train.batch_size=7": "train.batch_size: batch_size (7) must be a multiple of micro_batch_size (2)",
    "train.micro_batch_size=3": "train.batch_size: batch_size (16) must be a multiple of micro_batch_size (3)",
    "modalities.ct.size=[32,32,32]": "modalities.ct.size: size has 3 numbers, but dims is 2",
    "modalities.ct.spacing_mm=[1,1,1]": "modalities.ct.spacing_mm: spacing_mm has 3 numbers, but dims is 2",
    "modalities.ct.window_hu=[5,5]": "modalities.ct.window_hu: window_hu needs its lower bound first",
    "split.folds=3": "split.folds: folds=3 needs fold, the one to validate on: 0 to 2",
    "split={folds: 3, fold: 3}": "split.fold: fold counts from 0: with folds=3 it is 0 to 2",
    "split.test_fraction=0.8": "split.test_fraction: test_fraction and val_fraction together must leave cases",
    "data.labels=[a,a]": "data.labels: labels has a class twice",
    "modalities.ct.size=[16,32]": "modalities.ct.size: densenet121 needs at least 29 voxels on each axis",
}


@pytest.mark.parametrize("argument", MISTAKES)
def test_a_wrong_argument_is_named_with_what_was_expected(argument: str) -> None:
    (problem,) = problems_of(argument)

    assert problem.startswith(f"argument {argument[:97]}")
    assert MISTAKES[argument] in problem
    assert "\n" not in problem


@pytest.mark.parametrize("argument", ["epochs", "=5", "train.=5", ".=5", "", "train..epochs=5"])
def test_an_argument_that_is_no_assignment_is_refused(argument: str) -> None:
    assert problems_of(argument) == [
        f"argument {argument or 'nothing'}: expected KEY=VALUE with a dotted key, such as train.epochs=5"
    ]


@pytest.mark.parametrize(
    "argument",
    [
        "train.epochs={", "train.epochs=!!float x", "train.epochs=!!python/object/apply:os.getcwd []", "data.csv=!x y",
        "train.epochs=" + "[" * 5000, "train.epochs=&a [*a]", "train.epochs=*unknown", "data.csv=\x01",
        "data.csv=\udcff", "model={hidden: [1], hidden: [2]}",
    ],
)  # fmt: skip
def test_an_argument_that_is_not_strict_yaml_is_refused_in_one_line(argument: str) -> None:
    (problem,) = problems_of(argument)

    assert "not valid YAML" in problem or "given twice" in problem
    assert len(problem) < 300
    assert "\n" not in problem


def test_a_wrong_key_of_a_file_is_named_with_its_line(tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml", "# a comment\ntrain:\n  epochs: 5\n  batchsize: 8\nmodel:\n  droput: 0.1\n")

    assert problems_of(files=[file]) == [
        f"{file} line 6: model.droput: no such key; did you mean model.dropout?",
        f"{file} line 4: train.batchsize: no such key; did you mean train.batch_size?",
    ]


def test_the_last_one_to_set_a_key_is_blamed(tmp_path: Path) -> None:
    first = write(tmp_path / "a.yaml", "train:\n  epochs: 0\n")
    second = write(tmp_path / "b.yaml", "\n\ntrain: {epochs: -1}\n")

    assert problems_of(files=[first, second])[0].startswith(f"{second} line 3: train.epochs: ")
    assert problems_of("train.epochs=-2", files=[first, second])[0].startswith(
        "argument train.epochs=-2: train.epochs: "
    )


def test_a_key_that_stands_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml", "train:\n  epochs: 5\n  lr: 0.1\n  epochs: 6\ntrain: {lr: 1}\n")

    assert problems_of(files=[file]) == [
        f"{file} line 4: train.epochs: already given in line 2",
        f"{file} line 5: train: already given in line 1",
    ]


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.yaml", "train:\n  epochs: none\nmodalities:\n  mri: {size: [8, 8]}\n  ct: {size: [8, 8]}\n"
    )

    found = problems_of("model.drop=1", "split.folds=1", "nonsense", files=[tmp_path / "absent.yaml", file])

    wanted = [
        r"--config \S+absent\.yaml: file not found",
        r"argument nonsense: expected KEY=VALUE",
        r"argument split\.folds=1: split\.folds: expected a number greater than or equal to 2",
        r"argument model\.drop=1: model\.drop: no such key; did you mean model\.dropout",
        r"a\.yaml line 2: train\.epochs: expected a valid integer, found none",
    ]
    for pattern in wanted:
        assert len([problem for problem in found if re.search(pattern, problem)]) == 1, pattern
    assert len(found) == len(wanted)  # the sizes depend on model.*, which has a mistake
    assert [p.split(": ")[1] for p in problems_of("split.folds=1", files=[file])][-2:] == [
        "modalities.mri.size",
        "modalities.ct.size",
    ]
    with pytest.raises(UserError) as caught:
        load_config([file])
    assert len(texts(caught.value.problems)) == 3


def test_rule_is_not_applied_to_the_default_that_replaces_a_wrong_value() -> None:
    assert len(problems_of("train.micro_batch_size=x", "train.batch_size=3")) == 1
    assert len(problems_of("model.backbone=x", "modalities.ct.size=[16,16]")) == 1


def test_what_remains_without_the_wrong_keys_is_returned() -> None:
    reading = read_config([], ["train.epochs=x", "train.lr=0.5", "data.csv=a.csv"])

    assert reading.wrong_keys == ["train.epochs"]
    assert reading.config is not None
    assert (reading.config.train.lr, reading.config.train.epochs) == (0.5, 50)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"train: {epochs: 5", r"line 1: not valid YAML: expected ',' or '}'"),
        (b"train:\n\tepochs: 5", r"line 2: not valid YAML: found character '\\t'"),
        (
            b"a: 1\n---\nb: 2\n",
            r"line 2: not valid YAML: expected a single document in the stream, but found another document",
        ),
        (b"- 1\n- 2\n", r"expected sections such as `train:`, found \[1, 2\]"),
        (b"hello", "expected sections such as `train:`, found hello"),
        (b"train: \x00\x01", "not valid YAML: unacceptable character"),
        (b"\xff\xfe\x00t", "cannot be read: this is not UTF-8 text"),
        (b"# " + b"x" * 200_000, "cannot be read: larger than 100,000 bytes"),
        (b"[" * 50_000, "not valid YAML: nested too deeply"),
        (b"train: &a {lr: *a}", "line 1: not valid YAML: an anchor that contains itself"),
        (b"&a [*a]", "line 1: not valid YAML: an anchor that contains itself"),
        (b"? [1, 2]\n: 3\n", "line 1: not valid YAML: found unhashable key"),
        (b"? &a {*a : 1}\n: 3\n", "line 1: not valid YAML: an anchor that contains itself"),
    ],
    ids=range(13),
)
def test_file_without_a_configuration_is_an_error_of_one_line(content: bytes, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(content)

    (problem,) = problems_of(files=[file])

    assert re.search(rf"a\.yaml:? {expected}", problem), problem
    assert "\n" not in problem
    assert len(problem) < len(str(tmp_path)) + 200


@pytest.mark.parametrize("content", ["", "# nothing\n", "---\n", "{}", "\ufefftrain: {lr: 1e-4}\n"])
def test_an_empty_file_or_a_byte_order_mark_changes_nothing(content: str, tmp_path: Path) -> None:
    assert load_config([write(tmp_path / "a.yaml", content)]).train == Config().train


BOMBS = {
    "lists": "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)),
    "mappings": "a0: &a0 {x: 1}\n"
    + "".join(f"a{n}: &a{n} {{{', '.join(f'k{k}: *a{n - 1}' for k in range(9))}}}\n" for n in range(1, 12)),
    "merge keys": "a0: &a0 {x: 1}\n"
    + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12)),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_aliases_that_multiply_are_refused_at_once(kind: str, tmp_path: Path) -> None:
    started = time.monotonic()

    (problem,) = problems_of(files=[write(tmp_path / "bomb.yaml", BOMBS[kind])])

    assert problem.endswith("cannot be read: more than 20,000 values once its aliases are written out")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch CANARY']",
        "!!python/object/new:os.system ['touch CANARY']",
        "!!python/name:os.system",
        "!!binary aGVsbG8=",
        "!mine {a: 1}",
    ],
)
def test_tags_are_refused_and_run_nothing(tag: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    text = "data:\n  csv: " + tag.replace("CANARY", str(canary)) + "\n"

    (problem,) = problems_of(files=[write(tmp_path / "a.yaml", text)])

    assert "a.yaml line 2: not valid YAML: tags such as" in problem
    assert not canary.exists()


def test_a_file_without_permission_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    file = write(tmp_path / "a.yaml", "train: {}")
    monkeypatch.setattr(Path, "read_text", refuse)

    assert problems_of(files=[file]) == [f"{file}: cannot be read: Permission denied"]


@pytest.mark.parametrize("name", [".", "absent.yaml", "x" * 5000, "~nobody_of_this_name/a.yaml", "a\0b"])
def test_a_file_that_is_not_there_is_named(name: str) -> None:
    (problem,) = texts(read_config([name]).problems)

    assert problem.startswith(f"--config {printable(name)}: file not found")


def test_every_key_is_listed_with_its_section() -> None:
    keys = all_keys()

    assert {"data.columns.case", "train.early_stopping.patience", "modalities.NAME.window_hu", "run.name"} <= set(keys)
    assert len(keys) == len(set(keys))


def test_a_preset_fills_what_is_not_said_beside_it(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.yaml", "modalities:\n  t: {dims: 3, size: [32, 32, 32], preset: t1, clip_percentiles: [2, 98]}\n"
    )
    found = load_config([file]).modalities["t"]
    assert (found.spacing_mm, found.bias_correction, found.intensity) == ([1, 1, 1], True, "z_score_foreground")
    assert found.clip_percentiles == [2, 98]
    plane = load_config([file], ["modalities.t.dims=2", "modalities.t.size=[32,32]"]).modalities["t"]
    assert plane.spacing_mm == [1, 1]


def test_later_layer_overrides_a_preset_and_a_later_preset_overrides_all() -> None:
    words = ["modalities.ct.preset=head_ct", "modalities.ct.window_hu=[-5,5]"]
    assert load_config([], words).modalities["ct"].window_hu == [-5, 5]
    assert load_config([], words[::-1]).modalities["ct"].window_hu == [0, 80]
    found = load_config([], [*words, "modalities.ct.preset=t1"]).modalities["ct"]
    assert (found.window_hu, found.clip_percentiles) == (None, [0.5, 99.5])


def test_a_saved_configuration_with_a_preset_reads_back(tmp_path: Path) -> None:
    config = load_config([], ["modalities.ct.preset=head_ct", "modalities.ct.window_hu=[-5,5]"])
    assert load_config([write(tmp_path / "saved.yaml", to_yaml(config))]).modalities == config.modalities


def test_a_preset_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(UserError, match=r"modalities\.ct\.preset.*head_ct"):
        load_config([], ["modalities.ct.preset=brain"])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("modalities.ct.clip_percentiles=[1,99]", "window_hu and clip_percentiles both clip"),
        ("modalities.mri.clip_percentiles=[99,1]", "two different numbers from 0 to 100, the lower one first"),
        ("modalities.mri.clip_percentiles=[0,101]", "two different numbers from 0 to 100"),
        ("modalities.ct.bias_correction=true", "bias_correction is for MRI, window_hu for CT"),
        ("modalities.vw_mri.slice=largest_foreground", "slice=largest_foreground chooses a slice, but dims is 3"),
        ("modalities.mri.crop_foreground_mm=-1", "crop_foreground_mm"),
        ("modalities.mri.foreground=bright", "foreground"),
        ("modalities.mri.fit=stretch", "fit"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(word: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        load_config([], [word])
