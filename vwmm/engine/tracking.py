"""Who is told about the run: metrics.jsonl always, W&B through Accelerate where the configuration asks for it.

metrics.jsonl is the truth. Trackers get values and the recipe; never a path, a command line or a patient's name.
"""

import json
import os
import socket
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlparse

from vwmm.config.errors import UserError
from vwmm.config.loading import PATH_KEYS
from vwmm.config.run_folder import RunFolder, write_whole
from vwmm.config.schema import Config
from vwmm.engine.progress import LOG
from vwmm.engine.runtime import Runtime

PROBE_TIMEOUT_S = 3.0


def trackable_config(config: Config) -> dict[str, Any]:
    """The configuration without what holds a path: what a tracker may see."""
    values = config.model_dump(mode="json")
    for dotted in PATH_KEYS:
        section, key = dotted.split(".")
        values[section].pop(key, None)
    for modality in values["modalities"].values():
        modality.pop("folder", None)
    return values


def start_trackers(runtime: Runtime, config: Config, run: RunFolder) -> None:
    """Starts the trackers asked for, and says how. Raises UserError where one cannot be started as asked."""
    if "wandb" not in config.tracking.trackers or config.tracking.mode == "disabled":
        return
    mode, why = runtime.decide(lambda: _wandb_mode(config.tracking.mode))
    if runtime.is_main:
        # The identity outlives a restart, so that `wandb sync` joins the parts of a run.
        identity = _wandb_identity(run)
        os.environ.setdefault("WANDB_DATA_DIR", str(run.path / "wandb"))
    else:
        identity = ""
    import wandb

    settings = wandb.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        x_disable_meta=True,
        x_save_requirements=False,
        silent=True,
    )
    wandb_arguments = {
        "name": run.name,
        "id": identity,
        "resume": "allow" if mode == "online" else None,
        "mode": mode,
        "dir": str(run.path),
        "settings": settings,
    }
    problem = None
    try:
        runtime.accelerator.init_trackers(
            config.tracking.project, config=trackable_config(config), init_kwargs={"wandb": wandb_arguments}
        )
    except wandb.errors.Error as error:
        problem = f"W&B cannot be started: {str(error).splitlines()[0]}; tracking.mode=auto or offline needs no server"
    runtime.decide(lambda: _raise_if(problem))
    LOG.info("  tracking   W&B, %s%s; files in %s", mode, why, run.path / "wandb")


def _raise_if(problem: str | None) -> None:
    if problem is not None:
        raise UserError(problem)


def log_values(runtime: Runtime, values: Mapping[str, Any], *, step: int) -> None:
    """Sends numbers to the trackers that were started."""
    if runtime.accelerator.trackers:
        runtime.accelerator.log({key: value for key, value in values.items() if value is not None}, step=step)


def _wandb_mode(asked: str) -> tuple[str, str]:
    """`online` or `offline`, and why. Without a quick probe an unreachable server would block the start for minutes."""
    try:
        import wandb
    except ImportError as error:
        raise UserError("tracking.trackers=[wandb]: wandb is not installed (pip install 'vwmm[wandb]')") from error
    if asked != "auto":
        return asked, ""
    if not (os.environ.get("WANDB_API_KEY") or wandb.api.api_key):
        return "offline", " (no key; `wandb login`, or later `wandb sync`)"
    url = urlparse(os.environ.get("WANDB_BASE_URL") or wandb.api.settings("base_url"))
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
        socket.create_connection((url.hostname or "", port), timeout=PROBE_TIMEOUT_S).close()
    except OSError:
        return "offline", " (the server cannot be reached; later: `wandb sync`)"
    return "online", ""


def _wandb_identity(run: RunFolder) -> str:
    try:
        return str(json.loads(run.tracker.read_text())["wandb_id"])
    except (OSError, ValueError, KeyError):
        identity = uuid.uuid4().hex[:12]
        write_whole(run.tracker, json.dumps({"wandb_id": identity}) + "\n")
        return identity
