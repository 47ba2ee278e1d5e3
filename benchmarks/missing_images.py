"""What patients with a missing image are worth: training on all of them against training on the complete ones alone.

    python benchmarks/missing_images.py [--cases 240] [--missing 0.3] [--seeds 5] [KEY=VALUE]...

Both sides of a pair validate on the same cases, incomplete ones included, with the same number of optimizer steps, so
the side with fewer patients sees each more often. Prints each pair and the differences over all seeds.
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
EPOCHS = 25
MODALITIES = ["vw_mri", "mri", "ct"]


def train(cohort: Path, cwd: Path, name: str, seed: int, epochs: int, overrides: list[str]) -> dict[str, float]:
    """The best checkpoint's validation record."""
    words = [*RECIPE, f"data.csv={cohort}", f"run.name={name}", f"train.seed={seed}", f"train.epochs={epochs}"]
    words += ["train.monitor=loss", f"cache.dir={cwd / 'cache'}", *overrides]
    subprocess.run([sys.executable, "-m", "vwmm", "train", *words], cwd=cwd, check=True, capture_output=True)
    records = [json.loads(line) for line in (cwd / "runs" / name / "metrics.jsonl").read_text().splitlines()]
    return min((record for record in records if record["event"] == "validation"), key=lambda record: record["loss"])


def compare(cwd: Path, cohort: Path, seed: int, overrides: list[str]) -> dict[str, tuple[float, float]]:
    """For each score: with all patients, and with the complete ones alone."""
    every = train(cohort, cwd, f"all-{seed}", seed, EPOCHS, [f"split.seed={seed}", *overrides])
    split = pd.read_csv(cwd / "runs" / f"all-{seed}" / "split.csv", dtype=str).set_index("case").split
    rows = pd.read_csv(cohort, dtype=str, keep_default_na=False)
    rows["split"] = rows.case.map(split)
    is_complete = (rows[MODALITIES] != "").all(axis=1)
    kept = rows[is_complete | (rows.split == "val")]
    kept.to_csv(cohort.with_name(f"complete-{seed}.csv"), index=False)
    before, after = (int((table.split == "train").sum()) for table in (rows, kept))
    epochs = round(EPOCHS * before / after)
    complete = train(cohort.with_name(f"complete-{seed}.csv"), cwd, f"complete-{seed}", seed, epochs, overrides)
    print(
        f"seed {seed}: {before} patients trained on, of whom {after} are complete; {every['cases']} validated on\n"
        f"        all       loss {every['loss']:.3f}  accuracy {every['accuracy']:.3f}  AUROC {every['auroc']:.3f}\n"
        f"        complete  loss {complete['loss']:.3f}  accuracy {complete['accuracy']:.3f}  "
        f"AUROC {complete['auroc']:.3f}",
        flush=True,
    )
    return {key: (every[key], complete[key]) for key in ("loss", "accuracy", "auroc")}


def main() -> None:
    """Prints the pairs, then the mean differences with their standard errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=240)
    parser.add_argument("--missing", type=float, default=0.3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        words = ["--out", "cohort", "--cases", str(options.cases), "--missing", str(options.missing)]
        subprocess.run([sys.executable, "-m", "vwmm", "demo", *words], cwd=cwd, check=True, capture_output=True)
        pairs = [compare(cwd, cwd / "cohort" / "cohort.csv", n, options.overrides) for n in range(options.seeds)]
    for key in pairs[0]:
        differences = np.array([pair[key][0] - pair[key][1] for pair in pairs])
        better = int((differences < 0).sum() if key == "loss" else (differences > 0).sum())
        error = differences.std(ddof=1) / np.sqrt(len(pairs))
        print(f"{key:9} all - complete: {differences.mean():+.3f} +- {error:.3f}; better in {better} of {len(pairs)}")


if __name__ == "__main__":
    main()
