"""trackio, a dashboard on this machine."""

import contextlib
from collections.abc import Sequence

from vwmm.engine.tracking.base import Results, Row, RunInfo, picture_of, quiet


class TrackioTracker:
    """trackio, a dashboard on this machine; each start rewrites the whole run."""

    name = "trackio"

    def __init__(self, run_info: RunInfo) -> None:
        import trackio

        self._trackio, self._project, self._known = trackio, run_info.project, run_info.known_id
        with quiet():
            self._run = trackio.init(
                project=run_info.project,
                name=run_info.name,
                group=run_info.group,
                config=dict(run_info.config),
                embed=False,
            )  # fmt: skip
        self.identity = str(self._run.id)
        self.where = f"trackio: trackio show --project {run_info.project}"
        self._step = 0

    def last_logged_step(self, event: str) -> int:
        return 0

    def log(self, rows: Sequence[Row]) -> None:
        with quiet():
            for self._step, values in rows:
                self._run.log(dict(values), step=self._step)

    def drop_superseded(self) -> None:
        with quiet(), contextlib.suppress(ValueError):  # nothing has reached the project's file yet
            for run in self._trackio.Api().runs(self._project):
                if run.id == self._known and run.id != self.identity:
                    run.delete()

    def show(self, results: Results) -> None:
        import pandas as pd

        table = self._trackio.Table(dataframe=pd.DataFrame(results.rows, columns=list(results.columns)))
        pictures = {name: self._trackio.Image(picture_of(figure)) for name, figure in results.figures.items()}
        with quiet():
            self._run.log({results.table: table, **pictures, **results.summary}, step=self._step)

    def finish(self, *, is_good: bool) -> None:
        with quiet():
            self._trackio.finish()  # the run's own method would be called, and heard, once more at the exit
