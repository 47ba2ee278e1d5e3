"""Processes that are started again in the store of those before them."""

import threading

from torch.distributed import TCPStore

from vwmm.engine.launch.rendezvous import own_keys


def start(master: TCPStore, ranks: int) -> list[bytes]:
    """What each process of one start reads of the main one's key."""
    read: dict[int, bytes] = {}

    def process(rank: int) -> None:
        store = TCPStore("127.0.0.1", master.port, is_master=False, wait_for_workers=False)
        own = own_keys(store, rank, ranks)
        if rank == 0:
            assert not own.check(["address"])
            own.set("address", str(id(read)))
        read[rank] = own.get("address")

    threads = [threading.Thread(target=process, args=(rank,), daemon=True) for rank in reversed(range(ranks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(read) == ranks
    assert set(read.values()) == {str(id(read)).encode()}
    return list(read.values())


def test_each_start_has_keys_of_its_own_whatever_an_earlier_one_left() -> None:
    master = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    master.set("vwmm-hello/2", "a process that died before it was answered")
    for ranks in (3, 4, 2):
        start(master, ranks)
