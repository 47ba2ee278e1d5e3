"""Numba settings of the compiled loops."""

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compiled at the first call; the result is kept on the disk where there is a place that can be written.

    options: numba's, such as `fastmath`. The loops hold no lock while they run, and do not check divisions by zero.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=True, nogil=True, error_model="numpy", **options)(function)
        except RuntimeError:
            return njit(nogil=True, error_model="numpy", **options)(function)

    return decorate
