"""More than two processes, and a number of them that changes: the same bits.

VWMM_REHEARSALS=20 makes it up to four processes, four stops, and sixty exact steps instead of eight.
"""

from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.faults.rehearsing import NUM_REHEARSALS, ONE, TWO, Disturbance, assert_undisturbed, run_through

IS_WHOLE = NUM_REHEARSALS >= 20
EXACT_EPOCHS = 15 if IS_WHOLE else 2  # of four steps
COUNTS = (1, 2, 3, 4) if IS_WHOLE else (1,)  # the run that changes has two, one and three
STOPS = (1, 3, 6, 9)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One cache for both."""
    return f"cache.dir={tmp_path_factory.mktemp('cache')}"


def launch_file(number: int, folder: Path) -> str:
    """A launch file for that many processes."""
    if number == 1:
        return ONE
    file = folder / f"cpu_{number}.yaml"
    text = (ROOT / TWO).read_text().replace("num_processes: 2", f"num_processes: {number}")
    file.write_text(text)
    return str(file)


def test_exact_training_has_the_same_bits_on_any_number_of_processes_and_when_it_changes(
    cohort: Path, cache: str, tmp_path: Path
) -> None:
    folders = {number: tmp_path / str(number) for number in COUNTS}
    exact = ["train.exact=true", cache, f"train.epochs={EXACT_EPOCHS}"]
    for number, folder in folders.items():
        folder.mkdir()
        outcome = run_through(cohort, folder, [], *exact, launch=launch_file(number, tmp_path))
        assert outcome.codes == [0], outcome.text
        assert_undisturbed(folder / "runs" / "x", folders[1] / "runs" / "x")

    changing = tmp_path / "changing"
    changing.mkdir()
    stops = [Disturbance(f"rank=0,phase=step,step={step},do=term") for step in (2, 5)]
    files = [launch_file(number, tmp_path) for number in (2, 1, 3)]
    outcome = run_through(cohort, changing, stops, *exact, launch=files)
    assert outcome.codes == [75, 75, 0], outcome.text
    assert_undisturbed(changing / "runs" / "x", folders[1] / "runs" / "x")


@pytest.mark.skipif(not IS_WHOLE, reason="takes minutes: VWMM_REHEARSALS=20")
def test_more_than_two_processes_go_on_with_their_bits_too(cohort: Path, cache: str, tmp_path: Path) -> None:
    """Where an element lies in its bucket decides in which order three values are added."""
    runs = []
    faults = [Disturbance(f"rank=2,phase=forward,step={step},do=usr1") for step in STOPS]
    for name, stops in (("whole", []), ("stopped", faults)):
        (tmp_path / name).mkdir()
        run_through(cohort, tmp_path / name, stops, cache, launch=launch_file(3, tmp_path))
        runs.append(tmp_path / name / "runs" / "x")
    assert_undisturbed(runs[1], runs[0])
