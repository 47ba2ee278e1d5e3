"""Imports of MONAI only what is used: its networks, or all of it.

Each process of each start pays for it. `import monai` imports every module of MONAI: 1.1 s of CPU time where its
optional packages are hidden from it, 2.2 s with MLflow and matplotlib; a network alone takes 0.09 s (MONAI 1.6.1, after
torch).
"""

from types import ModuleType

from vwmm.system.postponed import Postponed

_MONAI = Postponed(
    ["monai", "monai.apps", "monai.networks.blocks", "monai.networks.nets"],
    unused=["ignite", "matplotlib.pyplot", "mlflow", "tensorboard", "transformers"],
    spared=["pandas"],  # for its profiler
)


def import_monai() -> None:
    """Imports it once, whole, for all threads; to MONAI, what it loads without need is not installed."""
    _MONAI.import_all()


def import_network(name: str) -> ModuleType:
    """A module of `monai.networks`, such as `nets.densenet`, without the packages that it does not need.

    The rest of MONAI is imported, whole, by the first import of another of its modules, here or in a user's code.
    """
    _MONAI.postpone(__version__=_version())  # its modules look at it
    return _MONAI.import_module(f"monai.networks.{name}")


def _version() -> str:
    from importlib.metadata import version

    return version("monai")
