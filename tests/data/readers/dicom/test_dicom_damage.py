"""Damaged, absurd and hostile DICOM: a reason in one line, without a name of anybody, in little time and memory."""

import logging
import os
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.conftest import ROOT
from tests.data.making_dicom import PYDICOM, real, save, slice_of, write_frames, write_slices
from tests.data.readers.dicom.test_volume import edit, quietly, setting, slices
from tests.data.readers.test_read import refusal, refusals
from vwmm.data.readers.dicom import header, pixels, stream
from vwmm.data.readers.dicom.pixels import frame_size
from vwmm.data.readers.image import ImageError
from vwmm.data.readers.read import check_header, read_image

pytestmark = pytest.mark.usefixtures("silence")

NAME = "Mustermann^Erika"


def example(path: Path, syntax: str = "") -> Path:
    """A slice of a patient with a name."""
    dataset = slice_of(0)
    dataset.PatientName, dataset.PatientID, dataset.StudyDescription = NAME, NAME, f"study of {NAME}"
    saved: Path = quietly(save, dataset, path, syntax)
    return saved


def attempt(path: Path, function: Callable[[Path], object]) -> str:
    """The reason, if there is one; nothing but an ImageError, quickly, and nobody's name."""
    begin = time.monotonic()
    try:
        function(path)
        text = ""
    except ImageError as error:
        text = str(error)
    assert time.monotonic() - begin < 5
    assert "\n" not in text
    assert "Muster" not in text
    assert "Erika" not in text
    return text


@pytest.mark.parametrize(
    "syntax",
    ["", ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless],
)
def test_a_truncated_file_never_gives_voxels(syntax: str, tmp_path: Path) -> None:
    path = example(tmp_path / "a.dcm", syntax)
    content = path.read_bytes()
    expected = read_image(path).voxels

    for size in [*range(1, len(content) - 1, max(1, len(content) // 60)), len(content) - 9]:
        path.write_bytes(content[:size])
        is_whole = not attempt(path, read_image)
        attempt(path, check_header)
        # The pixels may be whole although what follows them is lost.
        assert not is_whole or np.array_equal(read_image(path).voxels, expected), size


@pytest.mark.parametrize("syntax", ["", DeflatedExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_flipped_bits_give_voxels_or_a_reason(syntax: str, tmp_path: Path) -> None:
    path = example(tmp_path / "a.dcm", syntax)
    content = path.read_bytes()
    generator = np.random.default_rng(0)

    for _ in range(80):
        damaged = bytearray(content)
        for place in generator.integers(0, len(content), 4):
            damaged[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        attempt(path, check_header)
        attempt(path, read_image)


def test_flipped_bits_in_real_frames_of_jpeg_lossless_give_voxels_or_a_reason(tmp_path: Path) -> None:
    content = real("JPGLosslessP14SV1_1s_1f_8b.dcm").read_bytes()
    generator = np.random.default_rng(1)
    path = tmp_path / "a.dcm"

    for _ in range(12):
        damaged = bytearray(content)
        for place in generator.integers(0, 3000, 3):
            damaged[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        attempt(path, read_image)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"Rows": 65535, "Columns": 65535}, "65535 x 65535 x 1 voxels are more than"),
        ({"Rows": 60000, "Columns": 400}, "the pixel data have 2,720 bytes, but 400 x 60000 voxels of 16 bits have"),
        ({"Rows": 20}, "the pixel data have 2,720 bytes, but 40 x 20 voxels of 16 bits have 1,600"),
        ({"NumberOfFrames": 2**31 - 1}, "40 x 34 x 2147483647 voxels are more than"),
        ({"NumberOfFrames": 500_000}, "the pixel data have 2,720 bytes, but 40 x 34 x 500000 voxels"),
        ({"NumberOfFrames": -3}, "the image has no voxels (40 x 34 x -3)"),
        ({"Rows": 0}, "the DICOM header ends before its image"),
        ({"BitsAllocated": 12}, "16 bits of 12, the highest one 15: the DICOM header is damaged"),
        ({"BitsAllocated": 32}, "the pixel data have 2,720 bytes, but 40 x 34 voxels of 32 bits have 5,440: the"),
        ({"BitsStored": 0}, "0 bits of 16, the highest one 15: the DICOM header is damaged"),
        ({"HighBit": 3}, "16 bits of 16, the highest one 3: the DICOM header is damaged"),
        ({"PixelSpacing": [0.5, 0.5, 0.5]}, "PixelSpacing is damaged: expected 2 finite numbers"),
        ({"RescaleSlope": "1e999"}, "RescaleSlope is damaged: expected 1 finite numbers"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_an_absurd_header_is_refused_before_any_pixel_is_read(tags: dict, expected: str, tmp_path: Path) -> None:
    path = example(tmp_path / "a.dcm")
    length = len(path.read_bytes())
    assert length < 50_000
    edit(path, setting(**tags))

    for message in refusals(path):
        assert message.startswith(expected)


def test_values_that_pydicom_warns_of_are_read_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A warning would quote them."""
    path = example(tmp_path / "a.dcm")
    edit(path, setting(SeriesDescription=f"{NAME} {'x' * 80}", SeriesInstanceUID=f"1.2.{NAME}"))
    damaged = example(tmp_path / "b.dcm", JPEG2000Lossless)
    damaged.write_bytes(damaged.read_bytes().replace(b"\xff\x52", b"\xff\x00"))
    logging.getLogger("pydicom").setLevel(logging.WARNING)
    caplog.clear()

    assert read_image(path).voxels.shape == check_header(path) == (40, 34, 1)
    assert refusal(damaged) == "the pixel data are damaged (RuntimeError)"
    assert caplog.text == ""


def test_a_rescale_by_zero_is_refused(tmp_path: Path) -> None:
    path = example(tmp_path / "a.dcm")
    edit(path, setting(RescaleSlope=0))

    assert refusal(path) == "RescaleSlope is 0: every voxel would have the same value"


def compressed(path: Path, frames: list[bytes], syntax: str, **tags: int) -> Path:
    """A file whose compressed frames are these bytes."""
    dataset = slice_of(0)
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    quietly(pydicom.dcmwrite, path, dataset, implicit_vr=False, little_endian=True)
    return path


J2K_LIE = b"\xff\x4f\xff\x51" + struct.pack(">HHIIII", 41, 0, 30_000, 30_000, 0, 0) + b"\0" * 200
JPEG_LIE = b"\xff\xd8\xff\xc3" + struct.pack(">HBHHB", 11, 16, 30_000, 30_000, 1) + b"\0" * 200


@pytest.mark.parametrize(
    ("frame", "syntax", "tags", "expected"),
    [
        (J2K_LIE, JPEG2000Lossless, {}, "compressed frame 1 has 30000 x 30000 voxels, expected 40 x 34"),
        (J2K_LIE, JPEG2000Lossless, {"Rows": 30_000, "Columns": 30_000}, "compressed frame 1 has 224 bytes for 1,8"),
        (JPEG_LIE, JPEGLosslessSV1, {}, "compressed frame 1 has 30000 x 30000 voxels, expected 40 x 34"),
        (JPEG_LIE, JPEGLosslessSV1, {"Rows": 30_000, "Columns": 30_000}, "compressed frame 1 has 212 bytes for 1,8"),
        (b"\0" * 64, RLELossless, {"Rows": 30_000, "Columns": 30_000}, "compressed frame 1 has 64 bytes for 1,8"),
        (b"Dear colleague", JPEGLSLossless, {}, "compressed frame 1 is no image, expected 40 x 34: the file"),
        (b"\xff\xd8" + b"\xff" * 60, JPEGLSLossless, {}, "compressed frame 1 is no image, expected 40 x 34"),
        (J2K_LIE, JPEG2000Lossless, {"NumberOfFrames": 9}, "1 of 9 compressed frames are there: the file is tr"),
    ],
    ids=["j2k", "j2k alike", "jpeg", "jpeg alike", "rle", "text", "marks", "frames"],
)  # fmt: skip
def test_compressed_frames_that_contradict_the_header_are_refused_before_unpacking(
    frame: bytes, syntax: str, tags: dict[str, int], expected: str, tmp_path: Path
) -> None:
    path = compressed(tmp_path / "a.dcm", [frame], syntax, **tags)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = refusal(path)

    assert message.startswith(expected)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.mark.parametrize("name", ["MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"])
def test_the_size_of_a_real_frame_is_found(name: str) -> None:
    dataset = pydicom.dcmread(PYDICOM / name)
    (frame,) = pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1)

    assert frame_size(frame) == (64, 64)
    assert {frame_size(frame[:end]) for end in range(100)} <= {None, (64, 64)}


def test_a_deflated_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = example(tmp_path / "a.dcm", DeflatedExplicitVRLittleEndian)
    content = path.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    plain = zlib.decompress(content[start:], -15)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(plain)
    for _ in range(16):
        bomb += packer.compress(b"\0" * 2**24)
    path.write_bytes(content[:start] + bomb + packer.flush())  # 256 MiB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    attempt(path, check_header)
    attempt(path, read_image)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_deflated_file_is_unpacked_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = example(tmp_path / "a.dcm", DeflatedExplicitVRLittleEndian)
    expected = read_image(path).voxels
    content = path.read_bytes()
    plain = zlib.decompress(content[144 + int.from_bytes(content[140:144], "little") :], -15)
    header_bytes = plain.index(b"\xe0\x7f\x10\x00") + 20
    monkeypatch.setattr(header, "MAX_HEADER_BYTES", header_bytes)
    monkeypatch.setattr(header, "CHUNK_BYTES", 100)

    np.testing.assert_array_equal(read_image(path).voxels, expected)


def test_sequences_within_sequences_without_end_are_refused(tmp_path: Path) -> None:
    path = example(tmp_path / "a.dcm")
    content = path.read_bytes()
    place = content.index(b"\x10\x00\x10\x00PN")
    one = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    path.write_bytes(content[:place] + one * 20_000 + content[place:])

    for message in (attempt(path, check_header), attempt(path, read_image)):
        assert message.startswith(("the DICOM header is damaged (", "the DICOM header ends before its image"))


@pytest.mark.parametrize("syntax", ["", RLELossless])
def test_what_follows_the_pixels_is_not_read(syntax: str, tmp_path: Path) -> None:
    path = example(tmp_path / "a.dcm", syntax)
    expected = read_image(path).voxels
    with path.open("ab") as file:
        file.truncate(2**31)  # zeros without room on the disk
    begin = time.monotonic()

    found = read_image(path).voxels

    np.testing.assert_array_equal(found, expected)
    assert time.monotonic() - begin < 5


def test_zeros_instead_of_a_header_are_not_read_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_READS", 10_000)
    path = example(tmp_path / "a.dcm")
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"\x28\x00\x10\x00US")])
    with path.open("ab") as file:
        file.truncate(2**31)
    begin = time.monotonic()

    assert refusals(path) == {"the DICOM header has no end: the file is damaged"}
    assert time.monotonic() - begin < 5


def test_a_length_of_gigabytes_reserves_none(tmp_path: Path) -> None:
    path = example(tmp_path / "a.dcm")
    content = path.read_bytes()
    place = content.index(b"\x28\x00\x10\x00US")
    long = b"\x28\x00\x04\x00OB\0\0" + struct.pack("<I", 2**32 - 16)
    path.write_bytes(content[:place] + long + content[place:])
    script = (
        "import resource, sys, pathlib\n"
        "from vwmm.data.readers.read import check_header\n"
        "import pydicom, numpy, SimpleITK, nibabel\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, used + 2**29))\n"
        "try: check_header(pathlib.Path(sys.argv[1]))\n"
        "except ValueError as error: print(error)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, cwd=ROOT, check=True
    )

    assert "MemoryError" not in done.stdout
    assert done.stdout.startswith(("the DICOM header ends before its image", "the DICOM header is damaged"))


def test_a_decoder_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = example(tmp_path / "a.dcm", JPEGLSLossless)
    monkeypatch.setattr(pixels, "DECODERS", {JPEGLSLossless: "absent"})

    assert refusal(path) == (
        "its pixels are compressed (1.2.840.10008.1.2.4.80); to read them: pip install 'vwmm[dicom]'"
    )


def test_an_unknown_transfer_syntax_is_named(tmp_path: Path) -> None:
    path = compressed(tmp_path / "a.dcm", [b"\0" * 64], "1.2.840.10008.1.2.4.100")  # MPEG-2, a video

    assert refusal(path) == "transfer syntax 1.2.840.10008.1.2.4.100 is no image's that can be read; export it again"


# --- folders -------------------------------------------------------------------------------------------------------


def test_what_is_no_image_in_a_folder_is_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    slices(folder)
    expected = read_image(folder)
    (folder / "notes.txt").write_text("Dear colleague")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 300)
    (folder / "._IM00").write_bytes((folder / "IM00").read_bytes())
    (folder / "DICOMDIR").write_bytes((PYDICOM / "dicomdirtests" / "DICOMDIR").read_bytes())
    (folder / "index").write_bytes((PYDICOM / "dicomdirtests" / "DICOMDIR").read_bytes())
    (folder / "report").write_bytes((PYDICOM / "reportsi.dcm").read_bytes())
    (folder / "plan").write_bytes((PYDICOM / "rtplan.dcm").read_bytes())
    (folder / "inner").mkdir()
    (folder / "inner" / "IM00").write_bytes((folder / "IM00").read_bytes())
    (folder / "circle").symlink_to(folder)
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe")

    found = read_image(folder)

    np.testing.assert_array_equal(found.voxels, expected.voxels)
    assert check_header(folder) == (40, 34, 5)


@pytest.mark.parametrize("content", [None, b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"])
def test_slices_whose_content_is_not_there_are_counted_and_named(content: bytes | None, tmp_path: Path) -> None:
    """Passed over, they would make a shorter volume."""
    first, *_, last = slices(tmp_path / "a")
    for path in (first, last):
        path.unlink()
        path.symlink_to(tmp_path / "annex" / path.name) if content is None else path.write_bytes(content)

    (message,) = refusals(tmp_path / "a")

    names = sorted((first.name, last.name))
    assert message == (
        f"2 of its files are empty, or only links or pointers to content that is not there ({', '.join(names)}): fetch "
        "the data set whole (git annex get, datalad get, git lfs pull), or remove them"
    )


@pytest.mark.parametrize("name", ["a.nii.gz", "a.dcm", "a.png"])
def test_a_pointer_or_a_link_in_the_place_of_a_file_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "the file is not there, but a pointer to it: fetch" in next(iter(refusals(tmp_path / name)))
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(tmp_path / "nowhere")
    assert "a link to a file that is not there: fetch" in next(iter(refusals(tmp_path / name)))


def test_a_folder_without_an_image_says_so(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert refusals(tmp_path / "a") == {"the folder has no DICOM image"}
    (tmp_path / "a" / "notes.txt").write_text("Dear colleague")
    (tmp_path / "a" / "circle").symlink_to(tmp_path / "a" / "circle")
    assert refusals(tmp_path / "a") == {"the folder has no DICOM image"}
    (tmp_path / "a" / "inner").mkdir()
    assert refusals(tmp_path / "a") == {"the folder has no DICOM image; name the folder that has the files themselves"}


def test_a_damaged_slice_is_named_and_not_passed_over(tmp_path: Path) -> None:
    paths = slices(tmp_path / "a")
    content = paths[4].read_bytes()

    for size, expected in (
        (len(content) - 100, "IM06: the file is truncated: 2,620 bytes of pixels, expected 2,720"),
        (1000, "IM06: the DICOM header ends before its image: the file is truncated, or damaged"),
    ):
        paths[4].write_bytes(content[:size])
        assert refusals(tmp_path / "a") == {expected}


def test_a_damaged_compressed_slice_is_named(tmp_path: Path) -> None:
    paths = slices(tmp_path / "a", syntax=JPEG2000Lossless)
    paths[1].write_bytes(paths[1].read_bytes().replace(b"\xff\x4f\xff\x51", b"\0\0\0\0"))

    assert refusal(tmp_path / "a") == (
        f"{paths[1].name}: compressed frame 1 is no image, expected 40 x 34: the file is damaged"
    )


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = slices(tmp_path / "a")
    before = Path.stat

    def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path == paths[2] and sys._getframe(1).f_code.co_name == "__init__":
            raise PermissionError(13, "Permission denied", str(path))
        return before(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", stat)

    assert refusals(tmp_path / "a") == {f"{paths[2].name}: Permission denied"}


def test_frames_of_a_truncated_file_are_not_made_up(tmp_path: Path) -> None:
    paths = quietly(write_slices, tmp_path / "a")
    path = quietly(write_frames, tmp_path / "b.dcm", paths, range(5), syntax=RLELossless)
    content = path.read_bytes()

    for share in (0.5, 0.8, 0.95):
        path.write_bytes(content[: int(len(content) * share)])
        assert refusal(path)
