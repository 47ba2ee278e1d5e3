"""The head of a page: when, with what and by which command its numbers were made, without a path."""

import pytest

from vwmm.analysis.pages.origin import Origin, origin_of
from vwmm.analysis.pages.pathless import shown_command

CANARY = "CANARY-7f3a"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--config", f"/x/{CANARY}/my.yaml", "train.epochs=5"], "--config my.yaml train.epochs=5"),
        ([f"--config={CANARY}/my.yaml"], "--config=my.yaml"),
        (["--launch", f"{CANARY}/multi_gpu.yaml", "--strict"], "--launch multi_gpu.yaml --strict"),
        ([f"data.csv=/x/{CANARY}/cohort.csv", f"split.file={CANARY}/folds.csv"],
         "data.csv=cohort.csv split.file=folds.csv"),
        ([f"data.root={CANARY}", f"cache.dir=/x/{CANARY}", f"run.dir={CANARY}"],
         "data.root=... cache.dir=... run.dir=..."),
        ([f"modalities.ct.folder={CANARY}", f"modalities.ct={{folder: {CANARY}, dims: 2}}"],
         "modalities.ct.folder=... modalities.ct=..."),
        ([f"tracking.project=https://{CANARY}"], "tracking.project=..."),
        (["--out", f"/x/{CANARY}", f"--json={CANARY}/x.json"], "--out ... --json=..."),
        ([f"/x/{CANARY}/runs/first", f"{CANARY}/leeds.csv", "--new-patients"], "first leeds.csv --new-patients"),
        (["modalities.ct.window_hu=[-150, 550]", "data={csv: ["], "'modalities.ct.window_hu=[-150, 550]' data=..."),
        (["--workers", "4", "run.name=a b"], "--workers 4 'run.name=a b'"),
    ],
)  # fmt: skip
def test_a_command_is_shown_without_a_path(arguments: list[str], shown: str) -> None:
    found = shown_command("train", arguments)

    assert found == f"vwmm train {shown}"
    assert CANARY not in found


def test_the_origin_of_a_run_is_that_of_its_first_start() -> None:
    environment = {"started": "2026-03-02T08:00:00+00:00", "vwmm": "0.1.0", "git_commit": "abc",
                   "arguments": ["train.epochs=5"],
                   "earlier_starts": [{"started": "2026-03-01T10:00:00+01:00"}]}  # fmt: skip

    found = origin_of([environment])

    assert found == Origin("2026-03-01 09:00 to 2026-03-02 08:00 UTC", "0.1.0", "abc", "vwmm train train.epochs=5")


def test_the_origin_of_several_runs_names_all_their_versions() -> None:
    runs = [{"started": f"2026-03-0{day}T10:00:00Z", "vwmm": version, "git_commit": commit}
            for day, version, commit in ((3, "0.2", "b"), (1, "0.1", None), (2, "0.1", "a"))]  # fmt: skip

    found = origin_of(runs, command="vwmm cross_validate")

    assert found == Origin("2026-03-01 10:00 to 2026-03-03 10:00 UTC", "0.1, 0.2", "a, b", "vwmm cross_validate")


@pytest.mark.parametrize(
    "environment", [{}, {"started": "yesterday", "arguments": "x", "earlier_starts": 3, "vwmm": None}]
)
def test_what_was_not_recorded_is_said_to_be_so(environment: dict[str, object]) -> None:
    found = origin_of([environment])

    assert {found.date, found.version, found.commit} == {"not recorded"}
    assert found.command == "vwmm train (arguments not recorded)"
