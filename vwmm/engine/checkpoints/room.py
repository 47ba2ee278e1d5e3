"""Is there disk space for the checkpoints?"""

import shutil
from pathlib import Path

from vwmm.config.run_folder import RunFolder
from vwmm.config.schema import Config
from vwmm.engine.console import amount
from vwmm.system.problems import Problem

# Of float32 values for each parameter, what the optimizer keeps.
_MOMENTS = {"adam": 2, "adamw": 2, "sgd": 1}
_BESIDES = 2**20  # metrics, tables, report


def checkpoint_bytes(config: Config, num_parameters: int) -> int:
    """Bytes that a run's checkpoints have at most: those that are kept, the one that is being written, and the best."""
    weights = 4 * num_parameters
    state = weights * (1 + _MOMENTS[config.train.optimizer])
    is_one_an_epoch = config.run.save_every_steps is None and config.run.save_every_minutes is None
    most = config.run.keep + 1
    return (min(most, config.train.epochs) if is_one_an_epoch else most) * state + weights + _BESIDES


def room_problems(run: RunFolder, config: Config, num_parameters: int) -> list[Problem]:
    """Why the checkpoints do not fit; a quota is not seen here, but by the first checkpoint."""
    needed, place = checkpoint_bytes(config, num_parameters), run.path.absolute()
    place = next(folder for folder in [place, *place.parents] if folder.is_dir())
    usage = shutil.disk_usage(place)
    if not usage.total:  # no disk, such as /proc: making the folder fails with the reason
        return []
    free = usage.free
    there = sum(_size(path) for path in run.last.parent.rglob("*"))
    if free + there >= needed:
        return []
    found = (
        f"the disk of {run.path} has {amount(free)} free, and the checkpoints need {amount(needed)} "
        f"(run.keep={config.run.keep}){f', {amount(there)} of them there already' if there else ''}: make room, choose "
        "another run.dir, or a smaller run.keep"
    )
    return [Problem(found, key="run.dir")]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
