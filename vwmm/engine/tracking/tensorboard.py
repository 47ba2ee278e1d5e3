"""TensorBoard."""

from collections.abc import Sequence
from typing import Any

from vwmm.engine.tracking.base import Results, Row, RunInfo


class TensorBoardTracker:
    """Event files in the run folder, rewritten by each start."""

    name = "TensorBoard"
    identity = ""

    def __init__(self, run_info: RunInfo) -> None:
        import yaml
        from torch.utils.tensorboard import SummaryWriter

        folder = run_info.folder / "tensorboard"
        self._before = list(folder.glob("events.out.tfevents.*"))
        self._writer = SummaryWriter(str(folder))
        config = yaml.safe_dump(dict(run_info.config), sort_keys=False)
        self._add("add_text", "recipe", "    " + config.replace("\n", "\n    "))
        self.where = f"TensorBoard: tensorboard --logdir {folder}"
        self._step = 0

    def last_logged_step(self, event: str) -> int:
        return 0

    def log(self, rows: Sequence[Row]) -> None:
        for self._step, values in rows:
            for name, value in values.items():
                self._add("add_scalar", name, value, self._step)

    def drop_superseded(self) -> None:
        self._add("flush")
        for file in self._before:
            file.unlink(missing_ok=True)

    def show(self, results: Results) -> None:
        for name, figure in results.figures.items():
            self._add("add_figure", name, figure, self._step, close=False)
        lines = [results.columns, ["---"] * len(results.columns), *results.rows]
        table = "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
        self._add("add_text", results.table, table, self._step)
        for name, value in results.summary.items():
            self._add("add_scalar", name, value, self._step)

    def finish(self, *, is_good: bool) -> None:
        self._add("close")

    def _add(self, method: str, *arguments: Any, **more: Any) -> None:
        getattr(self._writer, method)(*arguments, **more)  # torch gives these no types
