"""Git commit, version and command of this process."""

import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from vwmm import __version__
from vwmm.analysis.pages.origin import NOT_RECORDED, Origin, span_of
from vwmm.analysis.pages.pathless import shown_command
from vwmm.config.loading import PROJECT_ROOT


def origin_now(command: str, arguments: Sequence[str]) -> Origin:
    """The origin of what `vwmm COMMAND ARGUMENTS` finds now."""
    return Origin(
        span_of([datetime.now(UTC)]), __version__, git_commit() or NOT_RECORDED, shown_command(command, arguments)
    )


def git_commit() -> str | None:
    """The commit of vwmm's own repository, with `+changes` where the tree differs from it."""
    command = ["git", "-C", str(PROJECT_ROOT)]
    try:
        root = subprocess.run(
            [*command, "rev-parse", "--show-toplevel", "HEAD"], capture_output=True, text=True, timeout=10
        )
        if root.returncode != 0 or Path(root.stdout.splitlines()[0]).resolve() != PROJECT_ROOT:
            return None
        changes = subprocess.run([*command, "status", "--porcelain"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return root.stdout.splitlines()[1] + ("+changes" if changes.stdout.strip() else "")
