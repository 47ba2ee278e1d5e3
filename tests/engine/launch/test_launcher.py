"""Signals that several who wait for the same process want to know of."""

import os
import signal

from vwmm.engine.launch.launcher import collected_signals


def test_who_collects_signals_around_another_has_them_all() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with collected_signals() as outer:
        os.kill(os.getpid(), signal.SIGUSR1)
        with collected_signals() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
    assert (outer, inner) == ([signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1], [signal.SIGTERM])
    assert signal.getsignal(signal.SIGUSR1) == before
