"""One side of benchmarks/fused_step.py: trains an epoch for each line of its input, with the vwmm of PYTHONPATH.

PYTHONPATH=TREE python benchmarks/_step_side.py NUM_CASES KEY=VALUE...
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.resume import make_trainer
from vwmm.config.loading import load_config
from vwmm.engine.distributed.runtime import start_runtime


def main() -> None:
    num_cases, *overrides = sys.argv[1:]
    runtime = start_runtime(load_config([], overrides).train)
    runtime.watchdog.start()
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(Path(folder), runtime, overrides, int(num_cases))
        for epoch, _ in enumerate(sys.stdin, start=1):
            start = time.process_time()
            trainer.progress.step = (epoch - 1) * trainer.steps_per_epoch
            trainer.train_steps(epoch, trainer._after_step)
            seconds = (time.process_time() - start) / trainer.steps_per_epoch
            print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
    runtime.watchdog.leave()


if __name__ == "__main__":
    main()
