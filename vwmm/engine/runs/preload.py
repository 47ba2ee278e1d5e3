"""Imports what a training needs from its start to its report, before it starts."""

import importlib

from vwmm.data.readers.imports import import_formats
from vwmm.system.monai_import import import_network
from vwmm.system.torch_import import postpone_compiler

_LATER = ("vwmm.engine.runs.train", "vwmm.engine.runs.finish_run", "vwmm.data.augmentation.warp")


def import_training() -> None:
    """For a process that forks: nothing is computed, since torch and numba would start threads that forks lack."""
    postpone_compiler()
    for name in _LATER:
        importlib.import_module(name)
    import_network("nets.densenet")
    import_formats(["dicom", "nifti"])
