"""Valid files of every format, and what a bad disk, a bad export or a bad will may make of them."""

import gzip
import re
import struct
import tempfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 - its usual name
from PIL import Image as Pillow
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from tests.data.making import numbers, write_dicom, write_nifti
from tests.data.making_dicom import PYDICOM, save, slice_of, write_frames, write_slices

Rng = np.random.Generator
NUMBERS = [
    0, 1, -1, 2, 3, 7, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**30, 2**31 - 1, 2**31, 2**32 - 1,
    2**40, 2**63 - 1, 2**64 - 1,
]  # fmt: skip
WORDS = [
    *map(str, NUMBERS), "-2147483648", "nan", "inf", "-inf", "1e300", "1e-300", "0x10", "1,5", "", " ", "\t", "%d",
    "%s",
    "LIST", "LOCAL", "..", "../../x", "/dev/zero", "/etc/passwd", "\x00", "\x1b[2J", "\u202e", "ä", "漢", "True",
    "None", "()", "(" * 60, "[]", "'", '"', "8 6 4", "8 6", "8 6 4 1", "1000 1000 1000", "1024 1024 1024", "x" * 60,
]  # fmt: skip


def _nifti(rng: Rng) -> bytes:
    """A NIfTI whose fields say other things (nifti1.h: offset and type of each field)."""
    raw = bytearray(valid("a.nii"))
    fields = {
        0: "i", 40: "h", 42: "h", 44: "h", 46: "h", 48: "h", 70: "h", 72: "h", 76: "f", 80: "f", 84: "f", 108: "f",
        112: "f", 116: "f", 123: "b", 252: "h", 254: "h", 256: "f", 260: "f", 280: "f", 284: "f", 296: "f", 344: "i",
    }  # fmt: skip
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.choice(list(fields)))
        kind = fields[place]
        if kind == "f":
            value = rng.choice([0, -1, 1, np.nan, np.inf, -np.inf, 1e38, 1e-38, 352, 353, 1e9, 4e9])
            raw[place : place + 4] = struct.pack("<f", value)
        else:
            size = struct.calcsize(kind)
            value = int(rng.choice([n for n in NUMBERS if 0 <= n < 2 ** (8 * size)]))
            raw[place : place + size] = value.to_bytes(size, "little" if rng.random() < 0.9 else "big")
    return bytes(raw)


def _text_header(name: str, separator: str) -> Callable[[Rng], bytes]:
    """A header of lines `key<separator>value`, changed by values, lines and order; the voxels stay."""

    def mutate(rng: Rng) -> bytes:
        raw = valid(name)
        end = raw.index(b"\n\n") + 2 if name.endswith(".nrrd") else raw.index(b"LOCAL\n") + 6
        lines = raw[:end].decode().split("\n")
        keys = {
            ": ": ["encoding: gzip", "encoding: bzip2", "encoding: hex", "encoding: text", "data file: a.nrrd",
                   "line skip: 3", "byte skip: -1", "byte skip: 2147483647", "type: block", "block size: 3",
                   "kinds: list domain domain",
                   "centers: cell cell cell", "thicknesses: nan nan nan", "content: x", "endian: big", "type: double",
                   "spacings: nan 0 -1", "measurement frame: (1,0,0) (0,1,0) (0,0,1)", "space dimension: 3",
                   "space origin: none", "space directions: none (1,0,0) (0,1,0)", "units: \"a\" \"b\"", "key:=value"],
            " = ": ["HeaderSize = -1", "HeaderSize = 999999999999", "CompressedData = True", "ElementType = MET_DOUBLE",
                    "ElementNumberOfChannels = 3", "BinaryData = False", "TransformMatrix = 1 0",
                    "ElementSpacing = 0 0 0",
                    "Offset = nan nan nan", "BinaryDataByteOrderMSB = True", "ElementDataFile = a.mha", "NDims = 2"],
        }[separator]  # fmt: skip
        for _ in range(int(rng.integers(1, 4))):
            at, what = int(rng.integers(1, max(len(lines) - 1, 2))), rng.random()
            if what < 0.5 and separator in lines[at % len(lines)]:
                key, _, value = lines[at].partition(separator)
                parts = re.split(r"([ ,()])", value)
                parts[int(rng.integers(len(parts)))] = str(rng.choice(WORDS))
                lines[at] = key + separator + "".join(parts)
            elif what < 0.75:
                lines.insert(at, str(rng.choice(keys)))
            elif what < 0.85:
                lines[at % len(lines)] = str(rng.choice(WORDS))
            elif what < 0.95:
                lines.insert(at, lines[int(rng.integers(len(lines)))])
            else:
                del lines[at % len(lines)]
        return "\n".join(lines).encode() + raw[end:]

    return mutate


def _dicom(rng: Rng) -> bytes:
    """Tags with other values, lengths and kinds, left out or there twice (PS3.5 7.1: explicit, little endian)."""
    raw = valid(str(rng.choice(["a.dcm", "frames.dcm", "a.dcm", "rle.dcm"])))
    starts = [
        m.start() for m in re.finditer(rb"[\x02\x08\x20\x28\xe0\x00\x18\x09]\x00..[A-Z]{2}", raw[132:4000], re.DOTALL)
    ]
    content = bytearray(raw)
    for _ in range(int(rng.integers(1, 4))):
        at = 132 + int(rng.choice(starts))
        is_long = bytes(content[at + 4 : at + 6]) in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"UC")
        place, size = (at + 8, 4) if is_long else (at + 6, 2)
        length = int.from_bytes(content[place : place + size], "little")
        what = int(rng.integers(6))
        if what == 0:
            content[place : place + size] = int(rng.choice(NUMBERS) % 2 ** (8 * size)).to_bytes(size, "little")
        elif what == 1 and length < 2000:
            word = str(rng.choice(WORDS)).encode()[:length].ljust(length, b" ")
            content[place + size : place + size + length] = word
        elif what == 2 and length < 2000:
            content[place + size : place + size + length] = (
                (int(rng.choice(NUMBERS)) % 2**16).to_bytes(length or 1, "little") if (length > 1) else b""
            )
        elif what == 3:
            content[at + 4 : at + 6] = str(
                rng.choice(["SQ", "OB", "UN", "DS", "IS", "US", "FD", "AT", "LO", "??"])
            ).encode()
        elif what == 4 and length < 2000:
            del content[at : place + size + length]
        else:
            content[at:at] = content[at : place + size + min(length, 2000)]
    return bytes(content)


def _array(rng: Rng) -> bytes:
    """A .npy whose header says other things."""
    raw = valid("a.npy")
    size = int.from_bytes(raw[8:10], "little")
    text = raw[10 : 10 + size].decode().strip()
    words = [
        ("'<i2'", ["'|O'", "'<f8'", "'>i2'", "'<c8'", "'<U9'", "'|V9999999999'", "[('a', '<i2')]", "'M8[s]'", "3",
        "None", "'<f16'", "'|b1'"]),
        ("False", ["True", "None", "2", "'x'"]),
        ("(8, 6)", ["(8,)", "()", "(8, 6, 4)", "(-8, -6)", "(0, 6)", "(True, 6)", "(1e3, 6)", "(8, 6, 1, 1, 1)",
        "(2**31, 6)",
                    f"({2**31}, {2**31})", f"({2**63}, 2)", f"({2**64}, 2)", "(30000, 30000)", "[8, 6]", "(8, 6",
                    "(" * 60, "-" * 60 + "1"]),
        ("'shape'", ["'Shape'", "'a': 1, 'shape'", "1", "b'shape'"]),
    ]  # fmt: skip
    for _ in range(int(rng.integers(1, 3))):
        old, new = words[int(rng.integers(len(words)))]
        text = text.replace(old, str(rng.choice(new)), 1)
    encoded = text.encode("latin-1")
    version, count = (b"\x01\x00", 2) if rng.random() < 0.7 else (bytes([int(rng.integers(5)), 0]), 4)
    stated = len(encoded) if rng.random() < 0.8 else int(rng.choice(NUMBERS)) % 2 ** (8 * count)
    return raw[:6] + version + stated.to_bytes(count, "little") + encoded + raw[10 + size :]


def _png(rng: Rng) -> bytes:
    """Chunks with other contents, their checksums right; left out, moved, there twice."""
    raw, chunks, at = valid("a.png"), [], 8
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4])
        chunks.append((raw[at + 4 : at + 8], raw[at + 8 : at + 8 + size]))
        at += 12 + size
    for _ in range(int(rng.integers(1, 4))):
        n, what = int(rng.integers(len(chunks))), rng.random()
        name, data = chunks[n]
        if what < 0.5 and data:
            changed = bytearray(data)
            place = int(rng.integers(len(changed)))
            value = int(rng.choice(NUMBERS)) % 2**32
            changed[place : place + 4] = value.to_bytes(4)
            chunks[n] = (name, bytes(changed))
        elif what < 0.75:
            extra = str(
                rng.choice(
                    ["PLTE", "tRNS", "zTXt", "iTXt", "iCCP", "eXIf", "acTL", "fcTL", "fdAT", "gAMA", "sBIT", "IEND"]
                )
            )
            body = zlib.compress(b"\0" * 10**6) if rng.random() < 0.3 else rng.bytes(int(rng.integers(40)))
            chunks.insert(n, (extra.encode(), b"k\0\0" + body))
        elif what < 0.9:
            chunks.insert(n, chunks[int(rng.integers(len(chunks)))])
        elif len(chunks) > 1:
            del chunks[n]
    parts = [len(d).to_bytes(4) + c + d + zlib.crc32(c + d).to_bytes(4) for c, d in chunks]
    return raw[:8] + b"".join(parts)


def _tiff(rng: Rng) -> bytes:
    """Entries of the directory with other tags, kinds, counts and values (TIFF 6.0, section 2)."""
    raw = bytearray(valid(str(rng.choice(["a.tif", "packed.tif"]))))
    start = int.from_bytes(raw[4:8], "little")
    count = int.from_bytes(raw[start : start + 2], "little")
    for _ in range(int(rng.integers(1, 4))):
        entry = start + 2 + 12 * int(rng.integers(count))
        offset, size = [(0, 2), (2, 2), (4, 4), (8, 4)][int(rng.choice([0, 1, 2, 3, 3, 3]))]
        value = int(rng.choice([*NUMBERS, 256, 257, 258, 259, 262, 277, 322, 325, 34665, 8, 6])) % 2 ** (8 * size)
        raw[entry + offset : entry + offset + size] = value.to_bytes(size, "little")
    return bytes(raw)


FIELDS: dict[str, Callable[[Rng], bytes]] = {
    "a.nii": _nifti, "a.nii.gz": lambda rng: gzip.compress(_nifti(rng), 1), "a.nrrd": _text_header("a.nrrd", ": "),
    "a.mha": _text_header("a.mha", " = "), "a.mhd": _text_header("a.mha", " = "), "a.dcm": _dicom, "a.npy": _array,
    "a.png": _png,
    "a.tif": _tiff,
}  # fmt: skip
VARIANTS = {
    "a.nii": ["a.nii"], "a.nii.gz": ["a.nii.gz"], "a.nrrd": ["a.nrrd", "gzip.nrrd"], "a.mha": ["a.mha", "zlib.mha"],
    "a.mhd": ["a.mha"],
    "a.dcm": ["a.dcm", "rle.dcm", "deflated.dcm", "implicit.dcm", "frames.dcm", "j2k.dcm", "jpeg_ls.dcm"],
    "a.npy": ["a.npy"],
    "a.png": ["a.png"], "a.jpg": ["a.jpg", "progressive.jpg"], "a.tif": ["a.tif", "packed.tif"],
}  # fmt: skip
FORMATS = list(VARIANTS)


def mutated(name: str, rng: Rng) -> bytes:
    """Bytes of a damaged file of the format of `name`, one of FORMATS."""
    if name in FIELDS and rng.random() < 0.6:
        content = FIELDS[name](rng)
        return _damaged(content, rng) if rng.random() < 0.1 else content
    return _damaged(valid(str(rng.choice(VARIANTS[name]))), rng)


def _damaged(content: bytes, rng: Rng) -> bytes:
    """Flipped bits, lost ends, parts of it moved, repeated, zeroed, or of another format."""
    raw = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        size = len(raw) or 1
        # Headers are small: most of the damage is done there.
        at = int(rng.integers(min(size, 400) if rng.random() < 0.7 else size))
        length = int(rng.integers(1, 64))
        what = int(rng.integers(7))
        if what == 0:
            for place in rng.integers(at, min(at + 200, size), 4):
                raw[int(place) % size : int(place) % size + 1] = rng.bytes(1)
        elif what == 1:
            del raw[at if rng.random() < 0.5 else int(rng.integers(size)) :]
        elif what == 2:
            raw[at : at + length] = bytes([int(rng.choice([0, 255]))]) * length
        elif what == 3:
            raw[at:at] = raw[at : at + length]
        elif what == 4:
            width = int(rng.choice([1, 2, 4, 8]))
            value = int(rng.choice(NUMBERS)) % 2 ** (8 * width)
            raw[at : at + width] = value.to_bytes(width, "little" if rng.random() < 0.5 else "big")
        elif what == 5:
            del raw[at : at + length]
        else:
            other = valid(str(rng.choice(list(_MAKERS))))
            raw[at:] = other[int(rng.integers(len(other))) :]
    return bytes(raw)


GOOD = [["case", "patient", "label", "mri", "ct", "site"]] + [
    [f"c{n}", f"p{n}", "ab"[n % 2], "1.png", "2.png" if n % 3 else "", "north"] for n in range(8)
]
CELLS = [
    *WORDS, "case", "label", "mri", "split", "fold", "train", "val", "a", "b", "c1", "p1", "1.png", "2.png",
    "./1.png", "1.png/x",
    "dir", "dir/../1.png", "circle", "pipe", "out/x", "a\nb", "a\rb", 'a"b', "a,b", "a;b", "=1+1", "\ufeffcase",
    "\x0b", "\x1c", "\u2028",
    "\x85", "\ud800", "x" * 140_000, "../" * 2000, "~", "~root", "$HOME", "-1", "²", "1.png\x1b]0;x\x07",
    "a" * 300 + ".png",
]  # fmt: skip


def mutated_table(rng: Rng) -> bytes:
    """A CSV with other cells, rows, columns, quotes, ends of lines, delimiters and encodings."""
    rows = [list(row) for row in GOOD]
    for _ in range(int(rng.integers(1, 5))):
        n, what = int(rng.integers(len(rows))), int(rng.integers(9))
        row = rows[n]
        if what <= 2 and row:
            row[int(rng.integers(len(row)))] = str(rng.choice(CELLS))
        elif what == 3:
            row.insert(int(rng.integers(len(row) + 1)), str(rng.choice(CELLS)))
        elif what == 4 and row:
            del row[int(rng.integers(len(row)))]
        elif what == 5:
            rows.insert(n, list(rows[int(rng.integers(len(rows)))]))
        elif what == 6:
            column, extra = int(rng.integers(7)), str(rng.choice(["split", "fold", "note", "case", "", "filename"]))
            for number, other in enumerate(rows):
                other.insert(column, extra if number == 0 else str(rng.choice(["train", "val", "0", "1", *CELLS])))
        elif what == 7:
            rows[n] = row * int(rng.integers(2, 50))
        else:
            rows.insert(n, [])
    delimiter, end = (
        str(rng.choice([",", ";", "\t", "|"], p=[0.6, 0.2, 0.1, 0.1])),
        str(rng.choice(["\n", "\r\n", "\r", "\n\n"])),
    )
    quote = [lambda c: c, lambda c: '"' + c.replace('"', '""') + '"', lambda c: f'"{c}', lambda c: f"{c}'"][
        int(rng.choice([0, 1, 2, 3], p=[0.5, 0.4, 0.05, 0.05]))
    ]
    text = end.join(delimiter.join(quote(cell) for cell in row) for row in rows)
    encoding = str(rng.choice(["utf-8", "utf-8-sig", "utf-16", "latin-1"], p=[0.7, 0.2, 0.05, 0.05]))
    content = text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")
    return _damaged(content, rng) if rng.random() < 0.25 else content


@cache
def valid(name: str) -> bytes:
    """A valid file's bytes."""
    with tempfile.TemporaryDirectory() as folder:
        return _MAKERS[name](Path(folder) / name).read_bytes()


def _itk(path: Path, *, packed: bool = False) -> Path:
    image = sitk.GetImageFromArray(numbers(4, 6, 8))
    image.SetSpacing((0.5, 0.75, 3.0))
    sitk.WriteImage(image, str(path), useCompression=packed)
    return path


def _picture(path: Path, **options: Any) -> Path:
    Pillow.fromarray(numbers(20, 30).astype(np.uint8)).save(path, **options)
    return path


def _saved(path: Path) -> Path:
    np.save(path, numbers(8, 6))
    return path


def _copied(path: Path, name: str) -> Path:
    path.write_bytes((PYDICOM / name).read_bytes())
    return path


_MAKERS: dict[str, Callable[[Path], Path]] = {
    "a.nii": lambda path: write_nifti(path, numbers(8, 6, 4)),
    "a.nii.gz": lambda path: write_nifti(path, numbers(8, 6, 4)),
    "a.nrrd": _itk,
    "gzip.nrrd": lambda path: _itk(path, packed=True),
    "a.mha": _itk,
    "zlib.mha": lambda path: _itk(path, packed=True),
    "a.npy": _saved,
    "a.png": _picture,
    "a.jpg": _picture,
    "progressive.jpg": lambda path: _picture(path, progressive=True),
    "a.tif": _picture,
    "packed.tif": lambda path: _picture(path, compression="tiff_lzw"),
    "a.dcm": lambda path: write_dicom(path, numbers(8, 6).clip(0)),
    "rle.dcm": lambda path: save(slice_of(0, size=(12, 16)), path, RLELossless),
    "deflated.dcm": lambda path: save(slice_of(0, size=(12, 16)), path, DeflatedExplicitVRLittleEndian),
    "implicit.dcm": lambda path: save(slice_of(0, size=(12, 16)), path, ImplicitVRLittleEndian),
    "frames.dcm": lambda path: write_frames(path, write_slices(path.parent / "s", count=3), range(3)),
    "j2k.dcm": lambda path: _copied(path, "MR_small_jp2klossless.dcm"),
    "jpeg_ls.dcm": lambda path: _copied(path, "MR_small_jpeg_ls_lossless.dcm"),
}
