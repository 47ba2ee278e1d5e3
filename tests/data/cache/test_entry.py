"""The file of a cached image: numpy opens it, and nothing in it can change without being seen."""

from pathlib import Path

import numpy as np
import pytest

from vwmm.data.cache.entry import Dtype, EntryError, Layout, encode, is_whole, verify, write_entry

KEY, OTHER_KEY = "0123456789abcdef" * 2, "f" * 32


def voxels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(50, 20, (1, *shape)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_numpy_opens_it_and_its_levels_give_the_values(dtype: Dtype, tmp_path: Path) -> None:
    array, path = voxels(5, 4, 3), tmp_path / "a.npy"

    write_entry(path, array, key=KEY, dtype=dtype)

    layout = Layout(array.shape, dtype)
    kept = np.load(path, mmap_mode="r")
    levels = verify(memoryview(path.read_bytes()), layout, KEY)
    assert (kept.dtype, kept.shape, path.stat().st_size) == (np.dtype(dtype), array.shape, layout.file_bytes)
    atol = {"float32": 0.0, "float16": 0.05, "uint8": (array.max() - array.min()) / 509}[dtype]
    np.testing.assert_allclose(kept.astype(np.float64) * levels.step + levels.lowest, array, rtol=0, atol=atol)
    assert is_whole(path, layout, KEY)


def test_uint8_keeps_the_extremes_and_one_value() -> None:
    kept, levels = encode(np.array([-3.0, 2.0], np.float32), "uint8")
    assert kept.tolist() == [0, 255]
    assert (levels.lowest, round(255 * levels.step + levels.lowest, 6)) == (-3.0, 2.0)
    kept, levels = encode(np.full(4, 7.5, np.float32), "uint8")
    assert (kept * levels.step + levels.lowest).tolist() == [7.5] * 4


def test_float16_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    array = np.array([[1.0, -70_000.0]], np.float32)

    with pytest.raises(EntryError, match=r"up to 65504, found -70000; use cache.dtype=float32"):
        write_entry(tmp_path / "a.npy", array, key=KEY, dtype="float16")
    assert list(tmp_path.iterdir()) == []


def test_every_byte_is_proved(tmp_path: Path) -> None:
    array, path = voxels(3, 2), tmp_path / "a.npy"
    write_entry(path, array, key=KEY, dtype="float32")
    whole, layout = path.read_bytes(), Layout(array.shape, "float32")

    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1
        with pytest.raises(EntryError):
            verify(memoryview(bytes(changed)), layout, KEY)
    for content in (whole[:-1], whole + b"x", b""):
        with pytest.raises(EntryError, match="bytes, expected"):
            verify(memoryview(content), layout, KEY)
    with pytest.raises(EntryError, match="another entry"):
        verify(memoryview(whole), layout, OTHER_KEY)


def test_size_header_and_key_are_seen_without_reading_the_voxels(tmp_path: Path) -> None:
    array, path = voxels(3, 2), tmp_path / "a.npy"
    write_entry(path, array, key=KEY, dtype="float32")
    layout, whole = Layout(array.shape, "float32"), path.read_bytes()

    assert not is_whole(path, layout, OTHER_KEY)
    assert not is_whole(path, Layout((1, 2, 3), "float32"), KEY)
    assert not is_whole(tmp_path / "b.npy", layout, KEY)
    assert not is_whole(tmp_path, layout, KEY)
    for content in (whole[:-1], whole + b"x", b"", b"x" * len(whole)):
        path.write_bytes(content)
        assert not is_whole(path, layout, KEY)


def test_an_aborted_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, array = tmp_path / "a.npy", voxels(3, 2)
    write_entry(path, array, key=KEY, dtype="float32")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vwmm.data.cache.entry.os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_entry(path, array + 1, key=KEY, dtype="float32")
    np.testing.assert_array_equal(np.load(path), array)
    assert list(tmp_path.iterdir()) == [path]
