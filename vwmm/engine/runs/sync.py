"""Sends a finished or stopped run to trackers."""

from vwmm.config.run_folder import RunFolder
from vwmm.config.schema import Config
from vwmm.engine.console import start_log
from vwmm.engine.runs.finish_run import find_examples
from vwmm.engine.tracking.metrics_file import read_records
from vwmm.engine.tracking.results import results_to_track
from vwmm.engine.tracking.trackers import open_trackers
from vwmm.system.errors import RunError


def sync(config: Config, run: RunFolder) -> list[str]:
    """The state of each tracker, in words. Raises UserError if the run is in use, RunError if one fails."""
    start_log(is_main_process=True)
    with run.lock():
        is_done = run.state() == "done"
        events = list(dict.fromkeys(key for key, _, _ in read_records(run.metrics)))
        trackers = open_trackers(config, run)
        asked, where = len(trackers), trackers.where()
        trackers.catch_up()
        if is_done:
            examples, _ = find_examples(run) if config.tracking.images else ([], None)
            trackers.show(results_to_track(run, examples[: config.tracking.images]))
        failed = asked - len(trackers)
        trackers.finish(is_good=is_done)
    if failed:
        raise RunError(f"{failed} of {asked} trackers failed, see above; `vwmm sync {run.path}` tries again")
    steps = sum(event == "train" for event, _ in events)
    state = "done, with its result" if is_done else f"{run.state() or 'not begun'}"
    return [f"{run.path}: {steps} steps, {len(events) - steps} validations, {state}", *where]
