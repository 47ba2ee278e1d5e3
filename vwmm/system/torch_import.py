"""Keeps torch's compiler out of a program that compiles nothing.

Optimizers import `torch._dynamo` with SymPy and a thousand other modules, in their first call, to tell it what not to
compile, and Accelerate to see whether a model is a compiled one: 1.4 s of CPU time (torch 2.13). Until something else
of the package is wanted, as by `torch.compile` or DistributedDataParallel, these few attributes do for it.
"""

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from vwmm.system.postponed import Postponed

# Torch keeps what `disable` gave it, as an attribute of the function.
_KEPT_AS = "__dynamo_disable"
_disabled: list[Callable[..., Any]] = []


class _OptimizedModule:
    """What `torch.compile` makes of a module; as long as the compiler is not imported there is none."""


def postpone_compiler() -> None:
    """From now on `torch._dynamo` is imported when it is needed; nothing changes if it has been imported."""
    import torch  # noqa: F401  # the package that it is in

    _DYNAMO.postpone(
        disable=_disable,
        graph_break=_graph_break,
        eval_frame=SimpleNamespace(OptimizedModule=_OptimizedModule),
    )


def _disable(function: Any = None, recursive: bool = True, **options: Any) -> Any:
    """A function that is not to be compiled: one of torch's own as it is, a user's by the compiler's own `disable`."""
    is_of_torch = str(getattr(function, "__module__", "")).partition(".")[0] == "torch"
    if not is_of_torch or set(options) - {"wrapping"}:
        _DYNAMO.run()
        return sys.modules["torch._dynamo"].disable(function, recursive, **options)
    _disabled.append(function)
    return function


def _graph_break(message: str = "") -> None:
    """Where a compiled graph would end."""


def _forget() -> None:
    """The compiler's own `disable` is asked for each function once more."""
    while _disabled:
        vars(_disabled.pop()).pop(_KEPT_AS, None)


_DYNAMO = Postponed(["torch._dynamo"], when_run=_forget)
