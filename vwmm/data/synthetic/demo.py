"""Makes the demonstration cohort, with progress shown."""

import fcntl
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from vwmm.config.schema import Config

if TYPE_CHECKING:
    from vwmm.data.synthetic import phantom

DEMO_COHORT = Path("data/demo/cohort.csv")  # as configs/demo.yaml has it
MAX_WORKERS = 4  # a full-size case takes a second and 0.3 GB
PLAIN_LINES = 10  # lines of progress where stderr is no terminal


def make_if_absent(config: Config) -> None:
    """The demonstration makes its own cohort where it is absent; of several processes one, while the others wait."""
    csv = Path(config.data.csv or "")
    if csv.exists() or csv != DEMO_COHORT.absolute():
        return  # another cohort was asked for: if it is absent, that is a mistake
    csv.parent.parent.mkdir(parents=True, exist_ok=True)
    with (csv.parent.parent / f".{csv.parent.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not csv.exists():
            from vwmm.data.synthetic import phantom  # NIfTI and DICOM libraries, which other starts are spared

            make_showing_progress(csv.parent, phantom.Options())


def make_showing_progress(out: Path, options: "phantom.Options") -> Path:
    """Makes the cohort, with a bar on a terminal and a few plain lines elsewhere, on stderr."""
    from vwmm.data.synthetic import phantom

    workers = min(os.cpu_count() or 1, MAX_WORKERS) if options.size == "full" else 1  # small ones take 30 ms each
    with tqdm(total=options.cases, unit="case", desc="drawing", disable=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            if bar.disable:
                _plain_progress(done, total)
            bar.update(done - bar.n)

        return phantom.make_cohort(out, **asdict(options), workers=workers, progress=progress)


def _plain_progress(done: int, total: int) -> None:
    if done * PLAIN_LINES // total > (done - 1) * PLAIN_LINES // total:
        print(f"drawing: {done} of {total} cases", file=sys.stderr, flush=True)
