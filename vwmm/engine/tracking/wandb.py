"""Weights & Biases, online or offline."""

import os
import shutil
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence

from vwmm.engine.tracking.base import Results, Row, RunInfo, picture_of
from vwmm.system.errors import UserError

PROBE_TIMEOUT_S = 3.0
# With `auto`, a server that answers the probe and then nothing more has so long; then the run goes offline.
INIT_TIMEOUT_S = 5.0


class WandbTracker:
    """W&B. Online it continues after the server's last step; offline it writes the whole run again."""

    name = "W&B"

    def __init__(self, run_info: RunInfo, *, identity: str, is_online: bool, init_timeout_s: float) -> None:
        import wandb

        self._wandb, self.identity = wandb, identity
        self._folder = run_info.folder / "wandb"
        self._before = sorted(self._folder.glob("offline-run-*"))
        settings = wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            x_disable_meta=True,
            x_save_requirements=False,
            host="-",
            silent=True,
            init_timeout=init_timeout_s,
            finish_timeout=60,
            finish_timeout_raises=False,
        )
        self._run = wandb.init(
            project=run_info.project,
            name=run_info.name,
            group=run_info.group,
            id=identity,
            config=dict(run_info.config),
            resume="allow" if is_online else None,
            mode="online" if is_online else "offline",
            dir=str(run_info.folder),
            settings=settings,
        )
        self._next = int(self._run.step) if is_online else 0
        if is_online:
            self.where = f"W&B, online: {self._run.url}"
        else:
            self.where = f"W&B, offline; files in {self._folder}"

    def last_logged_step(self, event: str) -> int:
        return max(0, self._next - 1)

    def log(self, rows: Sequence[Row]) -> None:
        for step, values in rows:
            self._run.log(dict(values), step=step)

    def drop_superseded(self) -> None:
        for folder in self._before:
            replaced = self._folder / "replaced"
            replaced.mkdir(exist_ok=True)
            shutil.move(folder, replaced / folder.name)
        self._before = []

    def show(self, results: Results) -> None:
        table = self._wandb.Table(columns=list(results.columns), data=[list(row) for row in results.rows])
        # A table that is logged as such becomes an artifact, too, with a path of this machine in its record.
        table.bind_to_run(self._run, results.table, self._run.step)
        pictures = {name: self._wandb.Image(picture_of(figure)) for name, figure in results.figures.items()}
        self._run.log({results.table: table.to_json(self._run), **pictures})  # beside the last values
        self._run.summary.update(dict(results.summary))

    def finish(self, *, is_good: bool) -> None:
        self._run.finish(exit_code=0 if is_good else 1)


def start_wandb(run_info: RunInfo) -> WandbTracker:
    """Starts it, with `auto` offline where the server does not answer. Raises UserError with what to do."""
    chosen, why = choose_mode(run_info.mode)
    identity = run_info.known_id or uuid.uuid4().hex[:12]
    run_info.keep_identity(identity)  # before anything is sent, so that all parts of a resumed run are one run
    os.environ.setdefault("WANDB_DATA_DIR", str(run_info.folder / "wandb"))
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    folder = run_info.folder / "wandb"
    folder.mkdir(exist_ok=True)
    before = set(folder.glob("run-*"))
    import wandb

    timeout_s = INIT_TIMEOUT_S if run_info.mode == "auto" else 90.0
    try:
        tracker = WandbTracker(run_info, identity=identity, is_online=chosen == "online", init_timeout_s=timeout_s)
    except wandb.errors.Error as error:
        if run_info.mode != "auto" or chosen == "offline":
            raise UserError(
                f"W&B cannot be started: {str(error).splitlines()[0]}; tracking.mode=auto or offline needs no server"
            ) from error
        why = f" (the server does not answer; later: `vwmm sync {run_info.folder}`)"
        wandb.teardown()  # its own process still holds the run
        for begun in set(folder.glob("run-*")) - before:
            shutil.rmtree(begun, ignore_errors=True)
        tracker = WandbTracker(run_info, identity=identity, is_online=False, init_timeout_s=90.0)
    tracker.where += why
    return tracker


def choose_mode(asked: str) -> tuple[str, str]:
    """`online` or `offline`, and why. Without a quick probe an unreachable server would block the start for minutes."""
    os.environ.setdefault("WANDB_SILENT", "true")  # we log one line in place of its start messages
    try:
        import wandb
    except ImportError as error:
        raise UserError("tracking.trackers=[wandb]: wandb is not installed (pip install 'vwmm[wandb]')") from error
    if asked != "auto":
        return asked, ""
    try:
        has_key = wandb.login(prompt=False, verify=False)
    except wandb.errors.Error as error:
        return "offline", f" ({str(error).splitlines()[0]}; later: `vwmm sync`)"
    if not has_key:
        return "offline", " (no key; `wandb login`, or later `vwmm sync`)"
    if not _answers(wandb.setup().settings.base_url):
        return "offline", " (the server cannot be reached; later: `vwmm sync`)"
    return "online", ""


def _answers(url: str) -> bool:
    """Whether anything answers there, through the proxy that the environment names."""
    heard = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(f"{url}/healthz")  # noqa: S310  # W&B's own setting
            urllib.request.urlopen(request, timeout=PROBE_TIMEOUT_S).close()  # noqa: S310
        except urllib.error.HTTPError:
            pass  # an answer, too
        except (OSError, ValueError):
            return
        heard.set()

    # A name server that does not answer knows no timeout; the thread is then left behind.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_TIMEOUT_S + 1)
    return heard.is_set()
