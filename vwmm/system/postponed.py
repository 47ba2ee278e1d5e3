"""Packages whose `__init__` runs when it is needed, not when one of their modules is imported.

`import a.b.c` runs the `__init__` of `a` and of `a.b`, which may import a hundred times what `a.b.c` needs. Here they
stay empty at first. The first import of another module of theirs, and the first attribute that they lack, runs them, in
this program or in a user's own code in the same process; after that everything is as Python would have it.
"""

import importlib
import importlib.abc
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from vwmm.system.start import importing


class Postponed(importlib.abc.MetaPathFinder):
    """The packages of one library."""

    def __init__(
        self,
        names: Sequence[str],
        *,
        unused: Sequence[str] = (),
        spared: Sequence[str] = (),
        when_run: Callable[[], None] | None = None,
    ) -> None:
        """names: the outermost first. To these, `unused` packages are not installed; to single modules, `spared` too.

        when_run: called after they have run. Packages import one another in circles, and a second thread would see them
        half made: one lock is for all that is done here.
        """
        self._names, self._unused, self._spared = tuple(names), tuple(unused), tuple(spared)
        self._when_run = when_run
        self._modules: list[ModuleType] = []
        self._stand_ins: Mapping[str, object] = {}
        self._thread: int | None = None
        self._lock = threading.RLock()

    def import_all(self) -> None:
        """The outermost package, whole, once for all threads."""
        with self._lock:
            if self._names[0] in sys.modules:
                self.run()
                return
            with importing(), hidden(self._unused):
                importlib.import_module(self._names[0])

    def import_module(self, name: str) -> ModuleType:
        """A module of a package that has been postponed, or imported; nothing else is imported because of it."""
        with self._lock:
            if not self._modules:
                return importlib.import_module(name)
            before, self._thread = self._thread, threading.get_ident()
            try:
                with importing(), hidden((*self._unused, *self._spared)):
                    return importlib.import_module(name)
            finally:
                self._thread = before
                self._link()

    def postpone(self, **stand_ins: object) -> None:
        """Makes the packages, empty but for `stand_ins`, attributes of the outermost; nothing once it is imported."""
        with self._lock:
            if self._names[0] in sys.modules:
                return
            for name in self._names:
                spec = PathFinder.find_spec(name, self._places(name))
                assert spec is not None, f"there is no package {name}"
                module = sys.modules[name] = importlib.util.module_from_spec(spec)
                module.__getattr__ = partial(self._attribute, name)  # type: ignore[method-assign]
                self._modules.append(module)
            self._stand_ins = stand_ins
            vars(self._modules[0]).update(stand_ins)
            self._link()
            sys.meta_path.insert(0, self)

    def _places(self, name: str) -> list[str] | None:
        """The folders that a package may be in; the packages that it is in are not imported. None: Python's path."""
        within = name.split(".")
        for depth in range(len(within) - 1, 0, -1):
            if (above := sys.modules.get(".".join(within[:depth]))) is not None:
                return ["/".join([place, *within[depth:-1]]) for place in above.__path__]
        return None

    def _link(self) -> None:
        """Makes the packages attributes of those that they are in."""
        for module in self._modules:
            parent, _, child = module.__name__.rpartition(".")
            if parent in sys.modules:
                setattr(sys.modules[parent], child, module)

    def run(self) -> None:
        """Runs what was postponed; nothing, if nothing is."""
        with self._lock:
            modules, self._modules = self._modules, []
            if not modules:
                return
            sys.meta_path.remove(self)
            for module in modules:
                del module.__getattr__
            for name in self._stand_ins:
                delattr(modules[0], name)
            with hidden(self._unused):
                for module in [*modules[1:], modules[0]]:  # the outermost last: it may skip packages that are there
                    assert module.__spec__ is not None
                    assert module.__spec__.loader is not None
                    module.__spec__.loader.exec_module(module)
            if self._when_run is not None:
                self._when_run()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Python's question before each import: whether this is the one that needs it all."""
        if not name.startswith(f"{self._names[0]}.") or self._thread == threading.get_ident():
            return None
        # A thread that does not get the lock would wait for one that waits for this module.
        if not self._lock.acquire(blocking=False):
            return None
        try:
            self.run()
        finally:
            self._lock.release()
        module = sys.modules.pop(name, None)  # else Python would load it once more
        return None if module is None else ModuleSpec(name, _Loaded(module), is_package=hasattr(module, "__path__"))

    def _attribute(self, name: str, key: str) -> Any:
        if (key.startswith("__") and key != "__all__") or self._thread == threading.get_ident():
            raise AttributeError(f"module {name!r} has no attribute {key!r}")
        self.run()
        return getattr(sys.modules[name], key)


class _Loaded(importlib.abc.Loader):
    """Loads a module that has been loaded."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__spec__"] = self._spec  # as an attribute it may be refused, as by torch._dynamo.config


@contextmanager
def hidden(names: Sequence[str]) -> Iterator[None]:
    """These cannot be imported, unless they have been."""
    absent = [name for name in names if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's own sign: it cannot be imported
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)
