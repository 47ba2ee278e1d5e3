"""`vwmm verify RUN`: steps computed again, bit for bit."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.conftest import Trained, run_command
from vwmm.engine.checkpoints.checkpoint import Progress, State, write_checkpoint


def test_a_run_computes_its_bits_again_from_a_checkpoint_and_from_its_start(trained: Trained, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.folder.rglob("*")}
    newest = run_command("verify", trained.folder, cwd=tmp_path)
    assert newest.returncode == 0, newest.stderr
    assert newest.stdout.splitlines()[-1] == "steps 5 to 8, from checkpoint step-00000004: the same bits"
    whole = run_command("verify", trained.folder, "--from", "0", "--steps", "100", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.splitlines()[-1] == "steps 1 to 8, from the start: the same bits"
    assert {path: path.stat().st_mtime_ns for path in trained.folder.rglob("*")} == before


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> Path:
    shutil.copytree(trained.folder, tmp_path / "run")
    return tmp_path / "run"


def test_changed_loss_is_found_and_sets_the_exit_code(copied: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (copied / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        if line["event"] == "train" and line["step"] == 6:
            line["loss"] += 1e-12
    (copied / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = run_command("verify", copied, cwd=tmp_path)
    assert done.returncode == 1
    assert "step 6: loss was" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("NOT the same bits")


def test_lines_that_are_no_records_are_passed_over(copied: Path, tmp_path: Path) -> None:
    with (copied / "metrics.jsonl").open("a") as stream:
        stream.write('{"event": "train", "epoch": 1, "step": Infinity}\n[]\n{"event": "tra')
    done = run_command("verify", copied, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_weights_that_were_other_ones_are_found(copied: Path, tmp_path: Path) -> None:
    lines = (copied / "metrics.jsonl").read_text().replace('"weights": "', '"weights": "0')
    (copied / "metrics.jsonl").write_text(lines)
    done = run_command("verify", copied, cwd=tmp_path)
    assert done.returncode == 1
    assert "validation after epoch 2: weights was 0" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "this is no run folder"),
        (["RUN", "--from", "3"], "no checkpoint of step 3 with steps after it; there are 0, 4"),
        (["RUN", "--steps", "none"], "argument --steps: expected a whole number of at least 1"),
        (["RUN", "train.lr=1"], "only --from, --steps and --launch can be added"),
    ],
)
def test_what_cannot_be_verified_is_said(arguments: list[str], message: str, copied: Path, tmp_path: Path) -> None:
    words = [str(copied) if word == "RUN" else word for word in arguments]
    done = run_command("verify", *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_best_checkpoint_that_is_damaged_or_has_other_weights_is_found(copied: Path, tmp_path: Path) -> None:
    best = copied / "checkpoints" / "best"
    epoch = json.loads((best / "meta.json").read_text())["progress"]["epoch"]
    other = copied / "checkpoints" / ("last" if epoch == 1 else "step-00000004")
    description = json.loads((best / "meta.json").read_text())
    model, optimizer = (other / name for name in ("model.safetensors", "optimizer.safetensors"))
    assert optimizer.exists()
    state = State(load_file(model), Progress(**description["progress"]), {"classes": description["classes"]})
    write_checkpoint(best, state)  # intact, but not what was learned
    done = run_command("verify", copied, cwd=tmp_path)
    assert done.returncode == 1, done.stdout
    assert "best, of epoch" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("NOT the same bits")
    content = bytearray((best / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (best / "model.safetensors").write_bytes(content)
    done = run_command("verify", copied, cwd=tmp_path)
    assert done.returncode == 2
    steps, conclusion = done.stdout.splitlines()[-2:]
    assert steps == "steps 5 to 8, from checkpoint step-00000004: the same bits"
    assert conclusion.startswith(f"checkpoint {best}: damaged: model.safetensors is not what was written")
    assert "copy the folder back from a backup, or train the run again" in conclusion
    assert "NOT the same bits" not in done.stdout
