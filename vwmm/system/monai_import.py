"""Imports MONAI without its optional packages.

Each process of each start pays for them: with MLflow and matplotlib installed `import monai` takes 2.8 s of CPU time,
and 1.7 s where they are hidden (measured with MONAI 1.6.1, after torch).
"""

import importlib
import sys
import threading

_UNUSED = ("ignite", "matplotlib.pyplot", "mlflow", "tensorboard", "transformers")
# MONAI's packages import one another in circles: a second thread would see them half made.
_LOCK = threading.RLock()


def import_monai() -> None:
    """Imports it once, whole, for all threads; to MONAI, what it loads without need is not installed."""
    with _LOCK:
        if "monai" in sys.modules:
            return
        hidden = [name for name in _UNUSED if name not in sys.modules]
        for name in hidden:
            sys.modules[name] = None  # type: ignore[assignment]  # Python's own sign: it cannot be imported
        try:
            importlib.import_module("monai")
        finally:
            for name in hidden:
                sys.modules.pop(name, None)
