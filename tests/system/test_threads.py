"""Work in threads only where there is something to wait for."""

import threading
import time

import pytest

import vwmm.system.threads
from vwmm.system.threads import map_hiding_waits


@pytest.mark.parametrize("waits", [False, True])
def test_results_come_in_order_from_threads_only_where_there_are_waits(
    waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vwmm.system.threads, "_NUM_SEEN", 4)
    monkeypatch.setattr(vwmm.system.threads, "_NUM_FOLLOWING", 8)
    threads = list[int]()

    def double(number: int) -> int:
        threads.append(threading.get_ident())
        if waits:
            time.sleep(0.002)
        return 2 * number

    assert list(map_hiding_waits(double, range(30), 3)) == list(range(0, 60, 2))
    assert len(threads) == 30
    assert (set(threads) == {threading.get_ident()}) is not waits


def test_error_of_an_item_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        list(map_hiding_waits(lambda number: 1 // number, [1, 0, 2], 2))
