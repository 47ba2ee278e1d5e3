"""A hospital's worst export: malformed images of every format, each a line of one cohort, and malformed tables."""

import gzip
import os
import shutil
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from PIL import Image as Pillow

from tests.data.making import numbers, write_csv, write_dicom
from tests.data.making_dicom import PYDICOM, write_frames, write_slices
from tests.data.mutating import valid

BROKEN = r"truncated|damaged|not a |cannot be read|ends before|is empty|no pixel data|has no value|damaged or"
BOMB = 2**26


@dataclass(frozen=True)
class Entry:
    """One malformed input."""

    path: str
    """As it is written in the CSV."""
    reason: str
    """A pattern of what is said of it."""
    line: int
    """Of the CSV."""
    is_seen_in_header: bool = True
    """Whether `vwmm check` sees it; if not, it is seen when the whole image is read."""


class Images:
    """Writes files into a folder and remembers what is wrong with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: list[Entry] = []
        self._line = 2

    def add(self, name: str, content: bytes, reason: str, *, header: bool = True) -> Path:
        """One file; its name has the format's suffix."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return self.note(name, reason, header=header)

    def note(self, name: str, reason: str, *, header: bool = True) -> Path:
        """A file or folder that is there already, or a path that leads nowhere."""
        self.entries.append(Entry(name, reason, self._line, header))
        self._line += 1 + name.count("\n")  # of a cell in quotes
        return self.folder / name


SUFFIXES = {
    "a.nii": "nii", "a.nii.gz": "nii.gz", "a.dcm": "dcm", "a.nrrd": "nrrd", "gzip.nrrd": "packed.nrrd", "a.mha": "mha",
    "zlib.mha": "packed.mha", "a.png": "png", "a.jpg": "jpg", "a.tif": "tif", "packed.tif": "packed.tif",
        "a.npy": "npy",
}  # fmt: skip
# Where a lost second half is found only when the voxels are unpacked.
PACKED = ("a.png", "a.jpg", "a.tif", "packed.tif", "gzip.nrrd", "zlib.mha")


def every_format(images: Images) -> None:
    """The same damage to a file of each format."""
    for maker, suffix in SUFFIXES.items():
        content = valid(maker)
        is_plain = maker not in PACKED
        images.add(f"empty.{suffix}", b"", r"the file is empty \(0 bytes\)")
        images.add(f"letter.{suffix}", b"Dear colleague,\n\nplease find attached\n", BROKEN)
        images.add(f"page.{suffix}", b"<!DOCTYPE html><title>404 Not Found</title>" * 40, BROKEN)
        images.add(f"zeros.{suffix}", b"\0" * len(content), BROKEN)
        images.add(f"noise.{suffix}", np.random.default_rng(1).bytes(len(content)), BROKEN)
        if not suffix.endswith(("tif", "jpg", "png")):  # pictures are known by their first bytes
            images.add(f"other.{suffix}", valid("a.png"), BROKEN)
        images.add(f"start.{suffix}", content[:30], BROKEN)
        images.add(f"half.{suffix}", content[: len(content) // 2], BROKEN, header=is_plain)
        mark = {"a.nii": 345, "a.dcm": 130}.get(maker, max(content.find(b"ElementDataFile"), 0))
        images.add(f"mark.{suffix}", content[:mark] + bytes([content[mark] ^ 16]) + content[mark + 1 :], BROKEN)


def nifti(**fields: Any) -> bytes:
    """A NIfTI of 8 x 6 x 4 int16 whose header says what it likes."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((8, 6, 4))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    for name, value in fields.items():
        if name != "voxels":
            header[name] = value
    voxels: np.ndarray = fields.get("voxels", numbers(8, 6, 4))
    return bytes(header.binaryblock) + b"\0" * 4 + voxels.tobytes(order="F")


def with_value(value: float) -> np.ndarray:
    voxels = numbers(8, 6, 4).astype(np.float32)
    voxels[1, 2, 3] = value
    return voxels


NIFTI: dict[str, tuple[dict[str, Any], str, bool]] = {
    "no_axes": ({"dim": [0, 8, 6, 4, 1, 1, 1, 1]}, BROKEN + "|expected 2 or 3 dimensions", True),
    "nine_axes": ({"dim": [9, 8, 6, 4, 1, 1, 1, 1]}, "the NIfTI header is damaged", True),
    "line": ({"dim": [1, 192, 1, 1, 1, 1, 1, 1]}, "expected 2 or 3 dimensions, found 1", True),
    "time_series": ({"dim": [4, 8, 6, 2, 2, 1, 1, 1]}, "expected 2 or 3 dimensions, found 4", True),
    "zero_axis": ({"dim": [3, 8, 0, 4, 1, 1, 1, 1]}, "the image has no voxels", True),
    "negative_axis": ({"dim": [3, 8, -6, 4, 1, 1, 1, 1]}, "the image has no voxels", True),
    "absurd_size": ({"dim": [3, 32767, 32767, 32767, 1, 1, 1, 1]}, "voxels are more than 1,073,741,824", True),
    "large_size": ({"dim": [3, 1000, 1000, 1000, 1, 1, 1, 1]}, "truncated", True),
    "unknown_type": ({"datatype": 1000}, "the NIfTI header is damaged: data code 1000", True),
    "no_type": ({"datatype": 0}, BROKEN + "|one real number", True),
    "colours": ({"datatype": 128, "bitpix": 24}, "the voxels are colours", True),
    "complex": ({"datatype": 32, "bitpix": 64}, "expected one real number per voxel", True),
    "offset_nan": ({"vox_offset": np.nan}, "begin at byte nan", True),
    "offset_inf": ({"vox_offset": np.inf}, "begin at byte inf", True),
    "offset_far": ({"vox_offset": 1e30}, "begin at byte 1e\\+30|begin at byte", True),
    "offset_within_header": ({"vox_offset": 16}, "the NIfTI header is damaged", True),
    "affine_nan": ({"srow_x": [np.nan, 0, 0, 0], "sform_code": 1}, "the affine is not finite", True),
    "affine_flat": ({"srow_x": [0, 0, 0, 0], "sform_code": 1}, "the affine is singular", True),
    "no_magic": ({"magic": b"xyz"}, "not a NIfTI file", True),
    "voxels_nan": ({"datatype": 16, "bitpix": 32, "voxels": with_value(np.nan)}, "1 of 192 voxels are not fin", False),
    "voxels_inf": ({"datatype": 16, "bitpix": 32, "voxels": with_value(np.inf)}, "1 of 192 voxels are not fin", False),
    "constant": ({"voxels": np.full((8, 6, 4), 7, np.int16)}, "every voxel has the same value", False),
    "slope_inf": ({"scl_slope": 3e38, "scl_inter": 1}, "voxels are not finite", False),
}  # fmt: skip


def nifti_files(images: Images) -> None:
    for name, (fields, reason, is_in_header) in NIFTI.items():
        images.add(f"{name}.nii", nifti(**fields), reason, header=is_in_header)
        images.add(f"{name}.nii.gz", gzip.compress(nifti(**fields)), reason, header=is_in_header)
    good = nifti()
    packed = gzip.compress(good)
    swapped = np.frombuffer(good[40:56], "<i2").astype(">i2").tobytes()
    images.add("half_swapped.nii", good[:40] + swapped + good[56:], BROKEN)
    images.add("more_than_it_says.nii", good + b"\0" * 2**21, "the file has more than the 736 bytes")
    bomb = gzip.compress(good + b"\0" * BOMB, 9)
    images.add("bomb_behind.nii.gz", bomb, "the file has more than the 736 bytes")
    images.add(
        "bomb_with_a_lie.nii.gz", bomb[:-4] + struct.pack("<I", 736), "more than the 736 bytes|damaged", header=False
    )
    wide = nifti(dim=[3, 512, 512, BOMB // 2**19, 1, 1, 1, 1], voxels=np.zeros(BOMB // 2, np.int16))
    images.add(
        "bomb_of_zeros.nii.gz", gzip.compress(wide, 9), r"67,109,\d{3} bytes of voxels, but they are packed into"
    )
    images.add("bomb_of_gigabytes.nii.gz", gzip.compress(nifti(dim=[3, 1024, 1024, 1000, 1, 1, 1, 1])), "packed into")
    images.add("bomb_in_a_bomb.nii.gz", gzip.compress(gzip.compress(packed)), "not a NIfTI file|truncated")
    images.add("checksum.nii.gz", packed[:-8] + b"\1\2\3\4" + packed[-4:], "compressed data are damaged", header=False)
    images.add("length.nii.gz", packed[:-4] + b"\1\2\3\4", "compressed data are damaged|truncated|ends before")
    images.add("no_trailer.nii.gz", packed[:-8], "truncated|ends before")
    images.add("flipped.nii.gz", packed[:200] + bytes([packed[200] ^ 4]) + packed[201:], BROKEN, header=False)
    images.add("plain.nii.gz", good, "not a gzip file")
    images.add("packed.nii", packed, "not a NIfTI file")
    images.add("header_only.nii", good[:348], BROKEN)
    images.add("one_byte_short.nii", good[:-1], "the file is truncated: 735 bytes of header and voxels, expected 736")


def tagged(path: Path, **tags: Any) -> None:
    """Changes tags of a DICOM file; None removes one."""
    dataset = pydicom.dcmread(path)
    for keyword, value in tags.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)


TAGS: dict[str, tuple[dict[str, Any], str, bool]] = {
    "rows_absurd": ({"Rows": 65535, "Columns": 65535}, "voxels are more than", True),
    "rows_too_many": ({"Rows": 6000}, "the pixel data have", True),
    "rows_too_few": ({"Rows": 2}, "the pixel data are damaged", False),
    "rows_zero": ({"Rows": 0}, "ends before its image", True),
    "frames_absurd": ({"NumberOfFrames": 2**31 - 1}, "voxels are more than", True),
    "frames_negative": ({"NumberOfFrames": -3}, "the image has no voxels", True),
    "bits_odd": ({"BitsAllocated": 12}, "header is damaged", True),
    "bits_none": ({"BitsStored": 0}, "header is damaged", True),
    "bits_twice": ({"BitsAllocated": 32}, "the pixel data have", True),
    "highest_bit": ({"HighBit": 3}, "header is damaged", True),
    "spacing_of_three": ({"PixelSpacing": [1, 1, 1]}, "PixelSpacing is damaged", True),
    "slope_infinite": ({"RescaleSlope": "1e999"}, "RescaleSlope is damaged", True),
    "slope_zero": ({"RescaleSlope": 0}, "RescaleSlope is 0", False),
    "askew": ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "ImageOrientationPatient is damaged", True),
    "nowhere": ({"ImagePositionPatient": ["1e999", 0, 0]}, "ImagePositionPatient is damaged", True),
    "colours": ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colour|the pixel data have", True),
    "no_pixels": ({"PixelData": None}, "no pixel data", True),
    "mosaic": ({"ImageType": ["ORIGINAL", "PRIMARY", "MOSAIC"]}, "a mosaic", True),
    "movie": ({"NumberOfFrames": 2, "FrameTime": 40, "Rows": 4}, "a time series or several views", True),
}


def dicom_files(images: Images) -> None:
    for name, (tags, reason, is_in_header) in TAGS.items():
        write_dicom(images.folder / f"{name}.dcm", numbers(8, 6).clip(0))
        tagged(images.folder / f"{name}.dcm", **tags)
        images.note(f"{name}.dcm", reason, header=is_in_header)
    good = valid("a.dcm")
    images.add("IM0001", good[: len(good) // 2], BROKEN)
    images.add("1.2.840.113619.2.55", good[:400], BROKEN)
    images.add("report.dcm", (PYDICOM / "reportsi.dcm").read_bytes(), "not a DICOM image")
    images.add("table_of_contents.dcm", (PYDICOM / "dicomdirtests" / "DICOMDIR").read_bytes(), "not a DICOM image")
    place = good.index(b"\x28\x00\x10\x00US")
    nested = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    images.add("nested.dcm", good[:place] + nested * 5000 + good[place:], BROKEN)
    long = b"\x28\x00\x04\x00OB\0\0" + struct.pack("<I", 2**32 - 16)
    images.add("length_of_gigabytes.dcm", good[:place] + long + good[place:], BROKEN)
    deflated = valid("deflated.dcm")
    images.add("deflated_half.dcm", deflated[: len(deflated) * 2 // 3], BROKEN)
    start = 144 + int.from_bytes(deflated[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(zlib.decompress(deflated[start:], -15)[:500] + b"\0" * BOMB) + packer.flush()
    images.add("deflated_bomb.dcm", deflated[:start] + bomb, BROKEN)
    rle = valid("rle.dcm")
    images.add("rle_half.dcm", rle[: len(rle) - 60], BROKEN)
    images.add(
        "no_syntax.dcm",
        good.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.99"),
        BROKEN + "|syntax",
        header=False,
    )
    images.add("frames_half.dcm", valid("frames.dcm")[:-3000], BROKEN)
    images.add("said_to_be_big.dcm", good.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0"), BROKEN)


def dicom_folders(images: Images) -> None:
    """Series that are no one even stack, and what else may lie in a folder."""

    def series(name: str, reason: str, edit: Callable[[Any, int], None] | None = None, *, count: int = 5) -> list[Path]:
        images.note(name, reason)
        return write_slices(images.folder / name, count=count, edit=edit)

    def only_third(**tags: Any) -> Callable[[Any, int], None]:
        def edit(dataset: Any, number: int) -> None:
            for keyword, value in tags.items() if number == 2 else ():
                if value is None:
                    delattr(dataset, keyword)
                else:
                    setattr(dataset, keyword, value)

        return edit

    series("series/two", "the folder has 2 DICOM series", only_third(SeriesInstanceUID="1.2.3", SeriesDescription="x"))
    series("series/gap", "slices are missing between")[2].unlink()
    paths = series("series/twice", "a slice is there twice")
    shutil.copy(paths[1], paths[1].parent / "copy")
    series("series/turned", "another orientation", only_third(ImageOrientationPatient=[0, 1, 0, 0, 0, 1]))
    series("series/finer", "another PixelSpacing", only_third(PixelSpacing=[0.1, 0.1]))
    series("series/unplaced", "no ImagePositionPatient", only_third(ImagePositionPatient=None))
    series("series/scout", "is a localizer", only_third(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    series("series/unit", "values in another unit", only_third(RescaleType="US"))
    series("series/off", "no even stack|missing between", only_third(ImagePositionPatient=[0, 0, 11]))
    paths = series("series/short", r"IM03: the file is truncated|IM\d\d: the file is truncated")
    paths[2].write_bytes(paths[2].read_bytes()[:-100])
    paths = series("series/no_header", r"IM\d\d: the DICOM header ends before its image")
    paths[2].write_bytes(paths[2].read_bytes()[:1000])
    paths = series("series/frames", "has several frames")
    write_frames(paths[0].parent / "more.dcm", paths, range(3))
    paths = series("series/size", "other slices have")
    odd = write_dicom(paths[0].parent / "odd.dcm", numbers(8, 6).clip(0))
    tagged(odd, SeriesInstanceUID=pydicom.dcmread(paths[0]).SeriesInstanceUID)
    (images.folder / "series/empty").mkdir()
    images.note("series/empty", "the folder has no DICOM image")
    (images.folder / "series/letters").mkdir()
    (images.folder / "series/letters/notes.txt").write_text("Dear colleague")
    images.note("series/letters", "the folder has no DICOM image")
    (images.folder / "series/odd").mkdir()
    os.mkfifo(images.folder / "series/odd/pipe")
    (images.folder / "series/odd/circle").symlink_to("circle")
    (images.folder / "series/odd/up").symlink_to("..")
    images.note("series/odd", "the folder has no DICOM image")
    write_slices(images.folder / "series/deep/er", count=2)
    images.note("series/deep", "name the folder that has the files themselves")
    outside = images.folder.parent / "outside"
    write_slices(outside, count=1)
    paths = series("series/linked", r"series/linked: has a link 'IM99' that leaves .*data.allow_outside_root=true")
    (paths[0].parent / "IM99").symlink_to(outside / "IM00")
    tagged(series("series/con\x1b[2J\ntrol", r"IM\\n\\x1b: PixelSpacing is damaged")[0], PixelSpacing=[1, 1, 1])
    folder = images.folder / "series/con\x1b[2J\ntrol"
    (folder / "IM00").rename(folder / "IM\n\x1b")


NRRD = {
    "type": "int16", "dimension": "3", "sizes": "8 6 4", "encoding": "raw", "endian": "little", "spacings": "1 2 3",
}  # fmt: skip
NRRDS = {
    "long_type": ({"type": "x" * 60}, "expected type to be one number per voxel"),
    "long_endian": ({"endian": "x" * 60}, "expected endian to be little or big"),
    "long_encoding": ({"encoding": "x" * 60}, "expected encoding to be one of"),
    "absurd": ({"sizes": "100000 100000 100000"}, "voxels are more than"),
    "overflow": ({"sizes": "9223372036854775807 2 2"}, "number of `sizes` differs|voxels are more than"),
    "zero": ({"sizes": "8 0 4"}, "the image has no voxels"),
    "large": ({"sizes": "800 600 400"}, "the file is truncated: 384 bytes of voxels, expected 384,000,000"),
    "packed_large": ({"sizes": "800 600 400", "encoding": "gzip"}, "packed into 384"),
    "words": ({"sizes": "eight six four"}, "the number of `sizes` differs from `dimension`"),
    "dimension": ({"dimension": "4"}, "the number of `sizes` differs from `dimension`"),
    "block": ({"type": "block"}, "expected type to be one number per voxel"),
    "colours": ({"sizes": "3 16 4", "kinds": "RGB-color domain domain"}, "colours or vectors"),
    "skip": ({"byte skip": "99999999999"}, "it skips more than the file has"),
    "elsewhere": ({"data file": "../../outside/IM00"}, "expected one file in the header's own folder"),
    "device": ({"data file": "/dev/zero"}, "expected one file in the header's own folder"),
    "list": ({"data file": "LIST"}, "expected one file in the header's own folder"),
    "gone": ({"data file": "gone.raw"}, "'gone.raw', which is not there"),
    "long_file": ({"data file": "x" * 3000}, "which is not there|expected one file"),
    "nul_file": ({"data file": "a\0b"}, "expected one file in the header's own folder"),
    "directions": ({"space directions": "(1,0,0)", "space": "LPS"}, "`space directions` has not"),
}
META = {
    "ObjectType": "Image", "NDims": "3", "DimSize": "8 6 4", "ElementType": "MET_SHORT", "ElementDataFile": "LOCAL",
}  # fmt: skip
METAS = {
    "absurd": ({"DimSize": "100000 100000 100000"}, "voxels are more than"),
    "nan": ({"DimSize": "nan 6 4"}, "DimSize is 'nan 6 4'"),
    "fraction": ({"DimSize": "8.5 6 4"}, "DimSize is '8.5 6 4'"),
    "words": ({"DimSize": "8 x 4"}, "expected numbers as DimSize"),
    "negative": ({"DimSize": "8 -6 4"}, "the image has no voxels"),
    "large": ({"DimSize": "800 600 400"}, "the file is truncated: 384 bytes of voxels, expected 384,000,000"),
    "packed_large": ({"DimSize": "800 600 400", "CompressedData": "True"}, "packed into 384"),
    "axes": ({"NDims": "2"}, "DimSize has not NDims numbers"),
    "type": ({"ElementType": "MET_OTHER"}, "expected ElementType to be one of"),
    "colours": ({"ElementNumberOfChannels": "3"}, "colours or vectors"),
    "text": ({"BinaryData": "False"}, "written as text"),
    "elsewhere": ({"ElementDataFile": "../outside/IM00"}, "expected one file in the header's own folder"),
    "device": ({"ElementDataFile": "/dev/zero"}, "expected one file in the header's own folder"),
    "list": ({"ElementDataFile": "LIST"}, "expected one file in the header's own folder"),
    "pattern": ({"ElementDataFile": "%d.raw 1 4 1"}, "expected one file in the header's own folder"),
    "gone": ({"ElementDataFile": "gone.raw"}, "'gone.raw', which is not there"),
    "control": ({"ElementDataFile": "\x1b[2J"}, "which is not there"),
    "matrix": ({"TransformMatrix": "1 0 0"}, "TransformMatrix, ElementSpacing or Offset has not NDims numbers"),
    "skip": ({"HeaderSize": "9" * 30}, "HeaderSize is '999"),
    "skip_far": ({"HeaderSize": "999999999"}, "the file is truncated: 0 bytes of voxels"),
}


def text_headers(images: Images) -> None:
    voxels = numbers(4, 6, 8).tobytes()
    for name, (fields, reason) in NRRDS.items():
        text = "".join(f"{key}: {value}\n" for key, value in {**NRRD, **fields}.items())
        images.add(f"{name}.nrrd", f"NRRD0004\n{text}\n".encode() + voxels, reason)
    images.add("endless.nrrd", b"NRRD0004\n" + b"# x\n" * 40_000, "the NRRD header is longer than|header is damaged")
    for name, (fields, reason) in METAS.items():
        last = {"ElementDataFile": fields.get("ElementDataFile", "LOCAL")}
        lines = {**META, **fields}
        lines.pop("ElementDataFile")
        text = "".join(f"{key} = {value}\n" for key, value in {**lines, **last}.items())
        suffix = "mhd" if "ElementDataFile" in fields or name in ("absurd", "axes", "type") else "mha"
        images.add(f"{name}.{suffix}", text.encode() + voxels, reason)
    images.add("endless.mha", b"Comment = x\n" * 20_000, "needs a line `ElementDataFile")
    bomb = "".join(f"{key} = {value}\n" for key, value in {"CompressedData": "True", **META}.items()).encode()
    images.add("bomb.mha", bomb + zlib.compress(b"\0" * BOMB, 9), "unpack to more than the 384 bytes", header=False)
    images.add(
        "beside.mhd", valid("a.mha").partition(b"LOCAL")[0] + b"beside.raw\n", "the file is truncated: 100 bytes"
    )
    (images.folder / "beside.raw").write_bytes(voxels[:100])
    outside = images.folder.parent / "outside"
    (images.folder / "link.raw").symlink_to(outside / "IM00")
    images.add("linked.mhd", valid("a.mha").partition(b"LOCAL")[0] + b"link.raw\n", "expected one file in the header's")


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)


def png(columns: int, rows: int, packed: bytes, *, kind: int = 0) -> bytes:
    head = struct.pack(">IIBBBBB", columns, rows, 8, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def pictures(images: Images) -> None:
    images.add("absurd.png", png(2**31 - 1, 2**31 - 1, b""), "pixels are more than|voxels are more than|" + BROKEN)
    images.add("large.png", png(20_000, 20_000, zlib.compress(b"")), "20000 x 20000 pixels are more than 134,217,728")
    zeros = zlib.compress(b"\0" * BOMB, 9)
    images.add("bomb.png", png(8192, 8191, zeros), "bytes of voxels, but they are packed into")
    images.add("bomb_in_colour.png", png(11_000, 11_000, zeros[:5000], kind=6), "packed into")
    images.add("zero.png", png(0, 5, b""), "the image has no voxels|" + BROKEN)
    images.add("no_data.png", png(30, 20, b""), BROKEN, header=False)
    images.add("black.png", png(30, 20, zlib.compress(b"\0" * 31 * 20)), "every voxel has the same value", header=False)
    content = valid("a.png")
    images.add("flipped.png", content[:70] + bytes([content[70] ^ 4]) + content[71:], BROKEN, header=False)
    images.add("text_bomb.png", content[:33] + chunk(b"zTXt", b"k\0\0" + zeros) + content[33:], BROKEN)
    jpeg = valid("a.jpg")
    place = jpeg.index(b"\xff\xc0") + 5
    images.add("absurd.jpg", jpeg[:place] + b"\xff\xdc\xff\xdc" + jpeg[place + 4 :], "65500 x 65500 ")
    images.add("large.jpg", jpeg[:place] + b"\x27\x10\x27\x10" + jpeg[place + 4 :], "packed into")
    images.add("no_tables.jpg", jpeg.replace(b"\xff\xdb", b"\xff\xfe"), BROKEN, header=False)
    pages = [Pillow.fromarray(numbers(20, 30, seed=n).astype(np.uint8)) for n in range(3)]
    pages[0].save(images.folder / "pages.tif", save_all=True, append_images=pages[1:])
    images.note("pages.tif", "the file has 3 pages")
    tiff = valid("a.tif")
    start = int.from_bytes(tiff[4:8], "little")
    for name, tag, value, reason in (
        ("absurd", 256, 2**32 - 1, "voxels are more than|pixels are more than|" + BROKEN),
        ("large", 256, 5_000_000, "packed into"),
        ("compression", 259, 65000, BROKEN),
        ("place", 273, 2**32 - 9, BROKEN),
        ("bits", 258, 77, BROKEN),
    ):
        changed = bytearray(tiff)
        for entry in range(start + 2, start + 2 + 12 * tiff[start], 12):
            if int.from_bytes(tiff[entry : entry + 2], "little") == tag:
                changed[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, value)
        images.add(f"{name}.tif", bytes(changed), reason, header=name != "place")
    Pillow.fromarray(with_value(np.nan)[:, :, 3]).save(images.folder / "nan.tif")
    images.note("nan.tif", "1 of 48 voxels are not finite", header=False)


def array(text: str, *, length: int | None = None, version: bytes = b"\x01\x00", data: bytes = b"\0" * 96) -> bytes:
    size = len(text) if length is None else length
    return b"\x93NUMPY" + version + size.to_bytes(2 if version == b"\x01\x00" else 4, "little") + text.encode() + data


ARRAY = "{{'descr': {}, 'fortran_order': False, 'shape': {}}}\n"


def arrays(images: Images) -> None:
    for name, content, reason in (
        ("objects", array(ARRAY.format("'|O'", "(8, 6)")), "Python objects"),
        ("pickled", b"\x80\x04cos\nsystem\n(S'true'\ntR.", BROKEN),
        ("complex", array(ARRAY.format("'<c8'", "(3, 4)")), "expected one real number per voxel"),
        ("text", array(ARRAY.format("'<U1'", "(3, 8)")), "expected one real number per voxel"),
        ("absurd", array(ARRAY.format("'<i2'", "(100000, 100000)")), "voxels are more than"),
        ("overflow", array(ARRAY.format("'<i2'", "(9223372036854775807, 9223372036854775807)")),
            "voxels are more than"),
        ("large", array(ARRAY.format("'<i2'", "(30000, 30000)")), "truncated: 96 bytes .* 1,800,000,000"),
        ("negative", array(ARRAY.format("'<i2'", "(-8, 6)")), "the image has no voxels"),
        ("fraction", array(ARRAY.format("'<i2'", "(8.0, 6)")), BROKEN),
        ("line", array(ARRAY.format("'<i2'", "(48,)")), "expected 2 or 3 dimensions, found 1"),
        ("code", array("__import__('os').getcwd()\n"), BROKEN),
        ("parentheses", array("(" * 60), BROKEN),
        ("length", array(ARRAY.format("'<i2'", "(8, 6)"), length=2**32 - 1, version=b"\x02\x00"),
            "header of the array is"),
        ("version", array(ARRAY.format("'<i2'", "(8, 6)"), version=b"\x09\x00"), "it is of version 9.0"),
        ("short", array(ARRAY.format("'<i2'", "(8, 6)"), data=b"\0" * 95), "truncated: 95 bytes .* 96"),
    ):  # fmt: skip
        images.add(f"{name}.npy", content, reason)
    images.add("black.npy", array(ARRAY.format("'<i2'", "(8, 6)")), "every voxel has the same value", header=False)
    np.save(images.folder / "nan.npy", with_value(np.nan))
    images.note("nan.npy", "1 of 192 voxels are not finite", header=False)
    np.save(images.folder / "swapped.npy", np.full((8, 6), np.nan, ">f8"))
    images.note("swapped.npy", "48 of 48 voxels are not finite", header=False)
    with zipfile.ZipFile(images.folder / "archive.npy", "w") as archive:
        archive.writestr("a.npy", valid("a.npy"))
    images.note("archive.npy", BROKEN)


def paths(images: Images) -> None:
    """What a cell may name instead of an image."""
    folder, outside = images.folder, images.folder.parent / "outside"
    os.mkfifo(folder / "pipe.nii")
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.getcwd()
        os.chdir(folder)
        bound.bind("socket.nii")
        os.chdir(here)
    (folder / "circle.nii").symlink_to("circle.nii")
    (folder / "there").symlink_to("back")
    (folder / "back").symlink_to("there")
    (folder / "dead.nii").symlink_to("nothing")
    (folder / "zero.nii").symlink_to("/dev/zero")
    (folder / "out.nii").symlink_to(outside / "IM00")
    (folder / "out").symlink_to(outside)
    for name, reason in (
        ("pipe.nii", "neither a file nor a folder"),
        ("socket.nii", "neither a file nor a folder"),
        ("zero.nii", "neither a file nor a folder"),
        ("/dev/zero", "neither a file nor a folder"),
        ("circle.nii", "Too many levels of symbolic links"),
        ("there/a.nii", "Too many levels of symbolic links"),
        ("dead.nii", "file not found"),
        ("nowhere.nii.gz", "file not found"),
        ("half.nii/inner.nii", "file not found"),
        ("out.nii", "leaves .*data.allow_outside_root=true"),
        ("out/IM00", "leaves .*data.allow_outside_root=true"),
        ("out", "leaves .*data.allow_outside_root=true"),
        ("../outside/IM00", "leaves .*data.allow_outside_root=true"),
        ("series/../../outside", "leaves .*data.allow_outside_root=true"),
        ("/etc/passwd", "leaves .*data.allow_outside_root=true"),
        ("/proc/self/mem", "leaves .*data.allow_outside_root=true"),
        ("~/a.nii", "file not found"),
        ("$HOME/a.nii", "file not found"),
        ("file:///etc/passwd", "file not found"),
        ("C:\\images\\a.nii", "file not found"),
        ("x" * 300 + ".nii", "File name too long"),
        ("../" * 3000, "File name too long"),
        ("gone\x1b[2J\n\u202e.nii", r"gone\\x1b\[2J\\n\\u202e.nii"),
        ("a.docx", "unknown format '.docx'"),
        ("a.hdr", "unknown format '.hdr'"),
    ):
        images.note(name, reason)
    for name in ("a.docx", "a.hdr"):
        (folder / name).write_bytes(b"PK\x03\x04")
    images.add("con\x1b]0;x\x07trol\n.nii", nifti()[:500], r"trol\\n.nii: the file is truncated")
    images.add("\u202eright.nii", nifti()[:500], r"\\u202eright.nii: the file is truncated")


def write_images(folder: Path) -> list[Entry]:
    """Files and folders, and `cohort.csv` with a line for each, in this order from line 2; returns what they are."""
    folder.mkdir(parents=True)
    images = Images(folder)
    for make in (every_format, nifti_files, dicom_files, dicom_folders, text_headers, pictures, arrays, paths):
        make(images)
    rows = [[f"n{n}", "ab"[n % 2], entry.path] for n, entry in enumerate(images.entries)]
    write_csv(folder / "cohort.csv", [["case", "label", "mri"], *rows])
    return images.entries
