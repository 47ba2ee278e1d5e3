"""The start of a command's process: imports without garbage collection."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Around imports of large libraries, above all of torch and of all that uses it, at the start of a command.

    They make half a million objects, which stay. To look for garbage among them, again and again, took a sixth of the
    CPU time of a training's start; later collections leave them out as well.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
