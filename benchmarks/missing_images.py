"""What patients with a missing image are worth: training on all of them against training on the complete ones alone.

    python benchmarks/missing_images.py [--cases 200] [--missing 0.3] [--seeds 5] [KEY=VALUE]...

All sides validate on the same cases, incomplete ones included. The complete patients are trained on twice: by the same
command, with the same number of epochs, and with the same number of optimizer steps, in which each is seen more often.
Prints each seed, then the differences over all seeds.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

RECIPE = ["--config", "configs/demo.yaml"]
MODALITIES = ["vw_mri", "mri", "ct"]
# Half of the patients validated on, for a small error; batch norm that sees more than a few images at a time.
OVERRIDES = ["split.val_fraction=0.5", "train.batch_size=16", "train.micro_batch_size=8"]
SCORES = ("loss", "accuracy", "auroc")
SIDES = {"all": "all", "epochs": "complete, same epochs", "steps": "complete, same steps"}


def train(cohort: Path, cwd: Path, name: str, seed: int, epochs: int, overrides: list[str]) -> dict[str, float]:
    """The best checkpoint's validation record."""
    words = [*RECIPE, f"data.csv={cohort}", f"run.name={name}", f"train.seed={seed}", f"train.epochs={epochs}"]
    words += ["train.monitor=loss", f"cache.dir={cwd / 'cache'}", *overrides]
    subprocess.run([sys.executable, "-m", "vwmm", "train", *words], cwd=cwd, check=True, capture_output=True)
    records = [json.loads(line) for line in (cwd / "runs" / name / "metrics.jsonl").read_text().splitlines()]
    return min((record for record in records if record["event"] == "validation"), key=lambda record: record["loss"])


def compare(cwd: Path, cohort: Path, seed: int, epochs: int, overrides: list[str]) -> dict[str, dict[str, float]]:
    """The best validation record of each side."""
    every = train(cohort, cwd, f"all-{seed}", seed, epochs, [f"split.seed={seed}", *overrides])
    split = pd.read_csv(cwd / "runs" / f"all-{seed}" / "split.csv", dtype=str).set_index("case").split
    rows = pd.read_csv(cohort, dtype=str, keep_default_na=False)
    rows["split"] = rows.case.map(split)
    kept = rows[(rows[MODALITIES] != "").all(axis=1) | (rows.split == "val")]
    fewer = cohort.with_name(f"complete-{seed}.csv")
    kept.to_csv(fewer, index=False)
    before, after = (int((table.split == "train").sum()) for table in (rows, kept))
    found = {
        "all": every,
        "epochs": train(fewer, cwd, f"epochs-{seed}", seed, epochs, overrides),
        "steps": train(fewer, cwd, f"steps-{seed}", seed, round(epochs * before / after), overrides),
    }
    print(f"seed {seed}: {before} patients trained on, of whom {after} are complete; {every['cases']} validated on")
    for side, name in SIDES.items():
        scores = "  ".join(f"{key} {found[side][key]:.3f}" for key in SCORES)
        print(f"        {name:24}  {scores}", flush=True)
    return found


def main() -> None:
    """Prints the sides, then the mean differences with their standard errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--missing", type=float, default=0.3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("overrides", nargs="*", default=OVERRIDES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        words = ["--out", "cohort", "--cases", str(options.cases), "--missing", str(options.missing)]
        subprocess.run([sys.executable, "-m", "vwmm", "demo", *words], cwd=cwd, check=True, capture_output=True)
        cohort = cwd / "cohort" / "cohort.csv"
        found = [compare(cwd, cohort, seed, options.epochs, options.overrides) for seed in range(options.seeds)]
    for side in ("epochs", "steps"):
        for key in SCORES:
            sign = -1 if key == "loss" else 1
            gains = sign * np.array([sides["all"][key] - sides[side][key] for sides in found])
            error = gains.std(ddof=1) / np.sqrt(len(gains))
            print(
                f"all patients against {SIDES[side]}: {key:8} better by {gains.mean():+.3f} +- {error:.3f}, "
                f"in {int((gains > 0).sum())} of {len(gains)} seeds"
            )


if __name__ == "__main__":
    main()
