"""Claim: `model.checkpointing` takes less memory, for about a third more time on a CPU.

Both sides are trainings of the default model on volumes of 64 x 64 x 64 voxels, 8 cases a step in one pass, in turns.
Peak memory is that of the whole process; what an empty process has is in it on both sides.

    python benchmarks/checkpointing.py [--rounds 5]
"""

import argparse

from benchmarks.fused_step import ROOT, measure, report

SETTINGS = [
    "modalities.vw_mri.size=[64,64,64]", "modalities.mri.size=[64,64]", "modalities.ct.size=[64,64]",
    "train.batch_size=8", "train.micro_batch_size=2", "train.cases_at_once=8", "train.epochs=1000",
    "augment.all.enabled=false",
]  # fmt: skip


def main() -> None:
    """Prints one line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    choices = {
        title: (ROOT, [*SETTINGS, f"model.checkpointing={value}"])
        for title, value in (("without", "false"), ("with", "true"))
    }
    report(measure(choices, 8, arguments.rounds))


if __name__ == "__main__":
    main()
