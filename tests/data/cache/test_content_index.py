"""Which image a file holds: never wrong, and known without reading it where nothing has changed."""

import os
import shutil
import time
from pathlib import Path

import pytest

from tests.data.making import numbers, write_series
from vwmm.data.cache import content_index
from vwmm.data.cache.content_index import IdentityIndex, content_hash, files_of, identify


def long_ago(path: Path, *, seconds: int = 100) -> Path:
    when = time.time() - seconds
    os.utime(path, (when, when))
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.nii"
    path.write_bytes(b"voxels")
    return path


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change time cannot be set back, so the time that must pass is taken away."""
    monkeypatch.setattr(content_index, "RACY_S", -1.0)


def test_what_was_noted_is_known_to_other_processes(image: Path, tmp_path: Path, settled: None) -> None:
    IdentityIndex(tmp_path / "index").put(identify(image), "c" * 32)

    assert IdentityIndex(tmp_path / "index").get(identify(image)) == "c" * 32


@pytest.mark.parametrize("change", ["content", "size", "time", "path", "replaced"])
def test_any_change_of_a_file_is_another_identity(change: str, image: Path) -> None:
    before = identify(image)
    if change == "content":
        time.sleep(0.02)
        image.write_bytes(b"VOXELS")
    elif change == "size":
        image.write_bytes(b"voxels!")
    elif change == "time":
        long_ago(image)
    elif change == "path":
        image = image.rename(image.with_name("b.nii"))
    else:
        shutil.copy2(image, image.with_name("copy"))
        os.replace(image.with_name("copy"), image)

    assert identify(image).key != before.key


def test_a_file_changed_just_now_is_not_remembered(image: Path, tmp_path: Path) -> None:
    index = IdentityIndex(tmp_path / "index")

    index.put(identify(long_ago(image)), "c" * 32)  # its change time is now, whatever its modification time says

    assert index.get(identify(image)) is None
    assert not (tmp_path / "index").exists()


def test_the_index_shows_no_path_and_passes_over_torn_and_altered_lines(
    image: Path, tmp_path: Path, settled: None
) -> None:
    folder = tmp_path / "index"
    IdentityIndex(folder).put(identify(image), "c" * 32)
    (file,) = folder.iterdir()
    line = file.read_text()

    assert str(tmp_path) not in line
    for damaged in (line[:-9], line[:40] + "d" + line[41:], "\x00\xff" * 30, line[:-1]):
        file.write_text(damaged + line[:20], encoding="latin-1")
        assert IdentityIndex(folder).get(identify(image)) is None
    file.write_text("torn\n" + line)
    assert IdentityIndex(folder).get(identify(image)) == "c" * 32


def test_the_files_of_the_index_are_brought_together(tmp_path: Path, settled: None) -> None:
    images = [tmp_path / f"{number}.nii" for number in range(3)]
    for number, image in enumerate(images):
        image.write_bytes(b"x")
        IdentityIndex(tmp_path / "index").put(identify(image), str(number) * 32)

    IdentityIndex(tmp_path / "index").compact()

    assert len(list((tmp_path / "index").iterdir())) == 1
    index = IdentityIndex(tmp_path / "index")
    assert [index.get(identify(image)) for image in images] == ["0" * 32, "1" * 32, "2" * 32]


def test_a_series_is_known_by_its_files_whatever_their_names(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", numbers(12, 14, 3).clip(0))
    content, before = content_hash(folder), identify(folder)

    next(folder.iterdir()).rename(folder / "another_name.dcm")
    assert content_hash(folder) == content
    assert identify(folder) != before
    write_series(folder, numbers(12, 14, 3, seed=1).clip(0))
    assert content_hash(folder) != content


def test_voxels_beside_their_header_belong_to_the_image(tmp_path: Path) -> None:
    header, raw = tmp_path / "a.mhd", tmp_path / "a.raw"
    header.write_text("NDims = 2\nDimSize = 2 2\nElementType = MET_UCHAR\nElementDataFile = a.raw\n")
    raw.write_bytes(b"abcd")
    content, before = content_hash(header), identify(header)

    assert files_of(header) == [header, raw]
    time.sleep(0.02)
    raw.write_bytes(b"abce")
    assert content_hash(header) != content
    assert identify(header) != before
    raw.unlink()
    assert files_of(header) == [header]
    header.write_bytes(b"\xff")
    assert files_of(header) == [header]


def test_the_voxels_of_a_detached_nrrd_belong_to_it(tmp_path: Path) -> None:
    header, raw = tmp_path / "a.nrrd", tmp_path / "a.raw"
    header.write_text("NRRD0004\ntype: uchar\ndimension: 2\nsizes: 2 2\nencoding: raw\ndata file: a.raw\n\n")
    raw.write_bytes(b"abcd")
    content, before = content_hash(header), identify(header)

    assert files_of(header) == [header, raw]
    time.sleep(0.02)
    raw.write_bytes(b"abce")
    assert content_hash(header) != content
    assert identify(header) != before


@pytest.mark.parametrize("name", ["a.mhd", "a.nrrd"])
@pytest.mark.parametrize("target", ["/proc/kcore", "../out.raw", "link.raw", "a\0b", "x" * 5000])
def test_a_file_elsewhere_that_a_header_names_is_not_read(name: str, target: str, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "out.raw").write_bytes(b"x")
    (tmp_path / "inner" / "link.raw").symlink_to(tmp_path / "out.raw")
    header = tmp_path / "inner" / name
    header.write_text(f"ElementDataFile = {target}\n" if name == "a.mhd" else f"NRRD0004\ndata file: {target}\n\n")

    assert files_of(header) == [header]
    assert len(content_hash(header)) == 32
