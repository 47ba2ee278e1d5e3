"""`vwmm report RUN`: the page again."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Trained, run_command
from vwmm.__main__ import main


def test_the_page_is_the_same_again(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained.folder, tmp_path / "run")
    before = (tmp_path / "run" / "report.html").read_text()
    assert "Example 1" in before
    (tmp_path / "run" / "report.html").unlink()
    done = run_command("report", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = (tmp_path / "run" / "report.html").read_text()
    assert again.count("<img") == before.count("<img")
    badge = re.compile(r'<[^>]*class="state[^>]*>[^<]*<')
    assert badge.findall(again) == badge.findall(before) != []
    assert "finished" in badge.findall(before)[0]


@pytest.mark.parametrize(
    "drawn",
    [
        {"by_site: null": "by_site: hold_out", "val_sites: null": "val_sites: [site_1]"},
        {"test_fraction: 0.0": "test_fraction: 0.1"},
    ],
    ids=["by_site", "test_fraction"],
)
def test_a_run_whose_split_was_drawn_has_its_examples_too(
    drawn: dict[str, str], trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained.folder, tmp_path / "run")
    config = (run / "config.yaml").read_text()
    for before, after in drawn.items():
        assert before in config
        config = config.replace(before, after)
    (run / "config.yaml").write_text(config)
    assert main(["report", str(run)]) == 0
    assert "without examples" not in capsys.readouterr().err
    assert "Example 1" in (run / "report.html").read_text()


def test_without_images_the_report_has_no_examples_and_a_note(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained.folder, tmp_path / "run")
    config = (tmp_path / "run" / "config.yaml").read_text().replace("cohort.csv", "gone.csv")
    (tmp_path / "run" / "config.yaml").write_text(config)
    done = run_command("report", "run", cwd=tmp_path)
    assert done.returncode == 0
    assert "without examples: data.csv: file not found" in done.stderr
    assert "Example 1" not in (tmp_path / "run" / "report.html").read_text()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    done = run_command("report", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "this is no run folder" in done.stderr


def test_predictions_that_were_changed_are_named_and_no_result_is_shown(trained: Trained, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "changed"
    shutil.copytree(trained.folder, run)
    rows = (run / "predictions_val.csv").read_text().splitlines()
    cells = rows[1].split(",")
    cells[4] = "0.123"
    (run / "predictions_val.csv").write_text("\n".join([rows[0], ",".join(cells), *rows[2:]]) + "\n")

    done = run_command("report", run, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "warning: predictions_val.csv was changed after the run wrote it" in done.stderr
    page = (run / "report.html").read_text()
    assert "predictions_val.csv was changed after the run wrote it" in page
    assert "Balanced accuracy" not in page


def flip_last_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda best: flip_last_byte(best / "model.safetensors"), "model.safetensors is not what was written"),
        (lambda best: (best / "meta.json").write_text("{"), "not complete"),
        (lambda best: (best / "meta.json").unlink(), "meta.json is missing"),
        (lambda best: shutil.rmtree(best), "it is missing"),
    ],
    ids=["weights", "meta", "no meta", "gone"],
)
def test_best_checkpoint_that_is_damaged_is_named_on_stderr_and_in_the_page(
    damage: Callable[[Path], None], what: str, trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "runs" / "damaged"
    shutil.copytree(trained.folder, run)
    damage(run / "checkpoints" / "best")

    assert main(["report", str(run)]) == 0

    (warning,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert warning.startswith("warning: checkpoints/best cannot be used: ")
    assert what in warning
    assert "copy the folder back from a backup, or train the run again" in warning
    page = (run / "report.html").read_text()
    assert "checkpoints/best cannot be used" in page
    assert what in page
    assert "Balanced accuracy" in page  # recorded, with a digest of their own
