"""Rendezvous of the ranks, with keys of this start alone.

`torchrun --max-restarts N` starts all processes again when one has failed: at the same address and port, with the same
ranks, and its store still has the keys of the start before, such as addresses of processes that are dead.
TORCHELASTIC_RESTART_COUNT does not tell the starts apart: on several machines each launcher counts failures of its own
processes only. So the processes agree on a name for their start, and put it before every key.
"""

import os
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

INIT_METHOD = "vwmm://"
_DONE = "vwmm-done"
_POLL_S = 0.01
_launchers: list[Any] = []


def register_rendezvous() -> None:
    """Makes INIT_METHOD known to `torch.distributed.init_process_group`; it may be called again."""
    from torch.distributed.rendezvous import register_rendezvous_handler

    global _is_registered
    if not _is_registered:
        register_rendezvous_handler(INIT_METHOD.partition(":")[0], _meet)
        _is_registered = True


def own_keys(store: Any, rank: int, num_processes: int) -> Any:
    """The part of a launcher's store that belongs to this start; to be asked for by all its processes at once."""
    from torch.distributed import PrefixStore

    return PrefixStore(f"vwmm-start-{_agree(store, rank, num_processes)}", store)


def launcher_has_store() -> bool:
    """Whether the launcher holds the store, for all starts; else the main process does, for its own."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def note_done() -> None:
    """Tells later starts of the same launcher that its run is done; they would start a new run otherwise."""
    if _launchers:
        _launchers[0].set(_DONE, "yes")


def was_done() -> bool:
    """Whether an earlier start of this launcher has finished the run: a process failed only then."""
    return bool(_launchers and _launchers[0].check([_DONE]))


def _meet(_: str, timeout: timedelta, **__: Any) -> Iterator[tuple[Any, int, int]]:
    """As `env://`."""
    from torch.distributed import rendezvous

    store, rank, num_processes = next(rendezvous("env://", timeout=timeout))
    store.set_timeout(timeout)
    if launcher_has_store():
        _launchers[:] = [store.clone()]
        store = own_keys(store, rank, num_processes)
    yield store, rank, num_processes


def _agree(store: Any, rank: int, num_processes: int) -> str:
    """The main process's name for this start. Each other one asks with a word of its own, which no earlier one knew."""
    word = uuid.uuid4().hex
    if rank:
        store.set(f"vwmm-hello/{rank}", word)
        start = str(store.get(f"vwmm-welcome/{word}").decode())
        store.add(f"vwmm-heard/{start}", 1)
        return start
    answered = set()
    while store.add(f"vwmm-heard/{word}", 0) < num_processes - 1:
        for other in range(1, num_processes):
            key = f"vwmm-hello/{other}"
            if store.check([key]) and (asked := store.get(key).decode()) not in answered:
                store.set(f"vwmm-welcome/{asked}", word)
                answered.add(asked)
        time.sleep(_POLL_S)
    return word


_is_registered = False
