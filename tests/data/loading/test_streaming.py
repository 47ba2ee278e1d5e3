"""Copies past the caches: the same bytes, whatever the size and place."""

import numpy as np
import pytest

from vwmm.data.loading.streaming import stream_copy


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("shape", [(1, 96, 64, 64), (1, 97, 65, 63), (1, 8, 8), (1, 512, 512), (0, 4)])
@pytest.mark.parametrize("offset", [0, 1, 16])
def test_every_byte_arrives_and_no_other_is_touched(dtype: str, shape: tuple[int, ...], offset: int) -> None:
    count = int(np.prod(shape))
    source = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    room = np.full(count + 256, 7, dtype)
    aligned = (-room.ctypes.data % 64) // room.itemsize
    start = aligned + offset

    stream_copy(room[start : start + count].reshape(shape), source)

    np.testing.assert_array_equal(room[start : start + count].reshape(shape), source)
    assert (room[:start] == 7).all()
    assert (room[start + count :] == 7).all()
