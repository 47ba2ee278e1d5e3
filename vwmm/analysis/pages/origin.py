"""Date, version, commit and command at the head of each page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from vwmm.analysis.pages.pathless import shown_command

NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Origin:
    """Where the numbers come from, in words."""

    date: str
    """In UTC: `2026-03-01 10:00 UTC`; where there were several starts, that of the first and that of the last."""
    version: str
    """Of vwmm."""
    commit: str
    """Of vwmm's own repository; `+changes` where its files differed from it."""
    command: str
    """The command line, without paths."""


def origin_of(environments: Sequence[Mapping[str, Any]], *, command: str | None = None) -> Origin:
    """The origin of runs, from their environment.json, however damaged; without a command that of a single training."""
    times = sorted(time for one in environments for time in _starts(one))
    if command is None:
        words = environments[0].get("arguments") if environments else None
        command = command_of("train", words)
    return Origin(
        date=span_of(times),
        version=_listed(one.get("vwmm") or _version(one) for one in environments),
        commit=_listed(one.get("git_commit") for one in environments),
        command=command,
    )


def command_of(command: str, words: Any) -> str:
    """`vwmm COMMAND WORDS` without paths; words: `arguments` of environment.json, which earlier versions lack."""
    if not isinstance(words, list):
        return f"{shown_command(command, [])} (arguments {NOT_RECORDED})"
    return shown_command(command, map(str, words))


def span_of(times: Sequence[datetime]) -> str:
    """The first and the last of some times, which are sorted; to the minute."""
    shown = list(dict.fromkeys(f"{time.astimezone(UTC):%Y-%m-%d %H:%M}" for time in (*times[:1], *times[-1:])))
    return f"{' to '.join(shown)} UTC" if shown else NOT_RECORDED


def _starts(environment: Mapping[str, Any]) -> list[datetime]:
    """When the run was started, and when before that."""
    earlier = environment.get("earlier_starts")
    before = [one for one in earlier if isinstance(one, Mapping)] if isinstance(earlier, list) else []
    found = []
    for one in (*before, environment):
        try:
            time = datetime.fromisoformat(str(one.get("started")))
        except ValueError:
            continue
        found.append(time if time.tzinfo else time.replace(tzinfo=UTC))
    return found


def _version(environment: Mapping[str, Any]) -> Any:
    versions = environment.get("versions")
    return versions.get("vwmm") if isinstance(versions, Mapping) else None


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(sorted({str(value) for value in values if value})) or NOT_RECORDED
