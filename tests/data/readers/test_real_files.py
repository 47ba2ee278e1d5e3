"""Files of real scanners, from pydicom, pydicom-data and nibabel: voxels and affines as SimpleITK finds them."""

import gzip
import re
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name

from tests.data.making_dicom import PYDICOM, itk_affine, itk_file, itk_series, real
from tests.data.readers.test_read import refusal, refusals
from vwmm.data.readers.dicom.volume import read_dicom
from vwmm.data.readers.image import ImageError
from vwmm.data.readers.read import check_header, read_image

NIBABEL = Path(nibabel.__file__).parent
MR_SMALL = [
    "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_expb.dcm", "MR_small_implicit.dcm",
    "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_padded.dcm",
]  # fmt: skip
EMRI = [
    "emri_small.dcm", "emri_small_RLE.dcm", "emri_small_big_endian.dcm", "emri_small_jpeg_2k_lossless.dcm",
    "emri_small_jpeg_ls_lossless.dcm",
]  # fmt: skip
LOSSLESS = [
    *MR_SMALL, *EMRI, "CT_small.dcm", "image_dfl.dcm", "J2K_pixelrep_mismatch.dcm", "explicit_VR-UN.dcm",
    "693_J2KR.dcm", "693_UNCI.dcm", "693_UNCR.dcm", "JPEG-LL.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm",
    "MR-SIEMENS-DICOM-WithOverlays.dcm", "MR2_J2KR.dcm", "MR2_UNCR.dcm", "RG3_J2KR.dcm", "RG3_UNCR.dcm",
    "bad_sequence.dcm", "vlut_04.dcm", "rtdose.dcm", "rtdose_rle.dcm", "eCT_Supplemental.dcm",
    "dicomdirtests/77654033/CR1/6154", "dicomdirtests/98892003/MR700/4558", "dicomdirtests/98892001/CT5N/2392",
]  # fmt: skip
# Lossy, with the largest difference from SimpleITK's decoder, in stored values: how the cosine transform is rounded.
LOSSY = {
    "693_J2KI.dcm": 0, "MR2_J2KI.dcm": 0, "RG3_J2KI.dcm": 0, "JPEG2000.dcm": 0, "JPEGLSNearLossless_08.dcm": 0,
    "JPEGLSNearLossless_16.dcm": 0, "JPGExtended.dcm": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def silence(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """No reader may warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        yield


@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
def test_a_file_has_the_voxels_and_the_affine_that_simpleitk_finds(name: str) -> None:
    path = real(name)
    expected = itk_file(path)

    found = read_image(path)

    voxels = sitk.GetArrayFromImage(expected).T.astype(np.float32)
    if name.startswith("rtdose"):
        voxels = (voxels.astype(np.float64) * pydicom.dcmread(path).DoseGridScaling).astype(np.float32)
    if found.unit == "HU":  # padding of the scanner, from -1500 down, is air here
        assert found.voxels[voxels < -1500].max(initial=-3000) < -1000
        found, voxels = replace(found, voxels=found.voxels.copy()), voxels.copy()
        found.voxels[voxels < -1024], voxels[voxels < -1024] = -1024, -1024
    voxels[(found.voxels == 0) & (np.abs(voxels) <= found.step / 2)] = 0  # a background of scaled integers
    np.testing.assert_allclose(found.voxels, voxels, rtol=0, atol=LOSSY.get(name, 0))
    np.testing.assert_allclose(found.affine, itk_affine(expected), atol=1e-3)
    assert check_header(path) == voxels.shape


@pytest.mark.parametrize("names", [MR_SMALL, EMRI, ["693_J2KR.dcm", "693_UNCR.dcm"], ["RG3_J2KR.dcm", "RG3_UNCR.dcm"]])
def test_every_encoding_of_an_image_has_the_same_voxels(names: list[str]) -> None:
    first, *others = (read_image(real(name)) for name in names)

    for other in others:
        np.testing.assert_array_equal(other.voxels, first.voxels)
        np.testing.assert_array_equal(other.affine, first.affine)


def test_a_big_endian_dose_equals_the_little_endian_one() -> None:
    """SimpleITK swaps its 32-bit values wrongly."""
    found, expected = read_image(real("rtdose_expb.dcm")), read_image(real("rtdose.dcm"))

    np.testing.assert_array_equal(found.voxels, expected.voxels)
    np.testing.assert_array_equal(found.affine, expected.affine)


def test_a_real_series_is_stacked_as_simpleitk_stacks_it() -> None:
    folder = PYDICOM / "dicomdirtests" / "98892001" / "CT5N"

    found = read_image(folder)

    voxels, affine = itk_series(folder)
    np.testing.assert_array_equal(found.voxels, voxels)
    np.testing.assert_allclose(found.affine, affine, atol=1e-3)
    assert found.unit == "HU"


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("77654033/CT2", "slices are missing between 17106 and 17136: 202 mm apart, most are 1.25; export"),
        ("98892001/CT2N", "6924: another orientation than the other slices (a localizer?)"),
        ("98892003/MR1", "the folder has 3 DICOM series: '1.3.6.1.4.1.5962.1.1.0.0.0.1196533885.18148.0.475' (1 "),
        ("98892003/MR700", "4528, 4558, 4588 and 3 more: another orientation than the other slices"),
        (".", "the folder has no DICOM image; name the folder that has the files themselves"),
    ],
)  # fmt: skip
def test_a_real_folder_that_is_no_volume_is_refused(folder: str, expected: str) -> None:
    path = PYDICOM / "dicomdirtests" / folder

    for function in (check_header, read_image):
        with pytest.raises(ImageError, match=f"^{re.escape(expected)}"):
            function(path)


def test_a_series_of_lossless_jpeg_is_stacked_as_simpleitk_stacks_it(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its identifiers were made anonymous, and are none any more
        dataset = pydicom.dcmread(real("bad_sequence.dcm"))
        place = np.array(dataset.ImagePositionPatient, dtype=float)
        for number in range(3):
            dataset.ImagePositionPatient = (place - [0, 0.3 * number, 2 * number]).round(4).tolist()
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.{number}"
            dataset.RescaleIntercept = -1000 - number
            dataset.save_as(tmp_path / f"{(number * 2) % 3}")

    found = read_image(tmp_path)

    voxels, _ = itk_series(tmp_path)
    np.testing.assert_array_equal(found.voxels, voxels)
    first, last = (itk_affine(itk_file(tmp_path / name)) for name in ("1", "0"))  # from the lowest slice on
    np.testing.assert_allclose(found.affine[:, [0, 1, 3]], first[:, [0, 1, 3]], atol=1e-3)
    np.testing.assert_allclose(found.affine @ [0, 0, 2, 1], last[:, 3], atol=1e-3)


def test_a_localizer_alone_and_one_series_of_several_are_read() -> None:
    folder = PYDICOM / "dicomdirtests" / "98892003" / "MR2"

    assert read_image(folder, series="FAST LOCALIZER").voxels.shape == (16, 16, 1)
    assert read_image(folder / "4950").voxels.shape == (16, 16, 1)


def test_a_real_enhanced_volume_lies_where_nibabel_and_simpleitk_see_it(tmp_path: Path) -> None:
    """176 sagittal frames of zeros: only the place can be compared."""
    path = tmp_path / "a"
    path.write_bytes(gzip.decompress((NIBABEL / "nicom" / "tests" / "data" / "philips_mprage.dcm.gz").read_bytes()))

    found = read_dicom(path)

    expected = itk_file(path)
    assert found.voxels.shape == expected.GetSize() == (256, 256, 176)
    np.testing.assert_allclose(found.affine, itk_affine(expected), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MR_truncated.dcm", "the file is truncated: 8,130 bytes of pixels, expected 8,192"),
        ("SC_rgb_jpeg.dcm", "the voxels are colours or vectors; expected one number per voxel"),
        ("examples_palette.dcm", "the voxels are colours or vectors; expected one number per voxel"),
        ("examples_ybr_color.dcm", "the voxels are colours or vectors; expected one number per voxel"),
        ("liver_1frame.dcm", "NumberOfFrames is 1, but 3 frames are described: the header is damaged"),
        ("reportsi.dcm", "this is not a DICOM image, despite its name"),
        ("rtplan.dcm", "this is not a DICOM image, despite its name"),
        ("dicomdirtests/DICOMDIR", "this is not a DICOM image, despite its name"),
        ("dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000000", "the DICOM header ends before its image: the "
         "file is truncated, or damaged"),
    ],
)  # fmt: skip
def test_a_real_file_that_is_no_image_is_refused_from_its_header(name: str, expected: str) -> None:
    assert {refusal(path := real(name), check_header), refusal(path)} == {expected}


def test_damaged_compressed_pixels_of_a_real_file_are_refused() -> None:
    assert refusal(real("JPEG-lossy.dcm")) == "the pixel data are damaged (RuntimeError)"
    assert refusals(real("emri_small_jpeg_2k_lossless_too_short.dcm")) == {
        "the compressed pixels have no end: the file is truncated, or damaged"
    }


def test_a_mosaic_is_refused(tmp_path: Path) -> None:
    shutil.copy(NIBABEL / "nicom" / "tests" / "data" / "0.dcm", tmp_path / "a.dcm")

    assert refusals(tmp_path / "a.dcm") == {
        "a mosaic: its slices are tiles of one picture; convert it to NIfTI (dcm2niix), or export slices"
    }


# --- NIfTI ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["anatomical.nii", "standard.nii.gz", "reoriented_anat_moved.nii"])
def test_a_nifti_has_the_voxels_and_the_affine_that_nibabel_and_simpleitk_find(name: str) -> None:
    check_nifti(NIBABEL / "tests" / "data" / name)


@pytest.mark.parametrize("codes", ["as stored", "LPS", "ASR", "PIL", "SRA"])
def test_an_oblique_nifti_lies_the_same_in_any_order_of_its_axes(codes: str, tmp_path: Path) -> None:
    source = nibabel.four_to_three(nibabel.load(NIBABEL / "tests" / "data" / "example4d.nii.gz"))[0]
    if codes != "as stored":
        turn = nibabel.orientations.ornt_transform(
            nibabel.io_orientation(source.affine), nibabel.orientations.axcodes2ornt(codes)
        )
        source = source.as_reoriented(turn)
        assert "".join(nibabel.aff2axcodes(source.affine)) == codes
    nibabel.save(source, tmp_path / "a.nii.gz")

    check_nifti(tmp_path / "a.nii.gz")


def check_nifti(path: Path) -> None:
    found, expected, itk = read_image(path), nibabel.load(path), sitk.ReadImage(str(path))

    np.testing.assert_array_equal(found.voxels, np.asanyarray(expected.dataobj).astype(np.float32))
    np.testing.assert_array_equal(found.voxels, sitk.GetArrayFromImage(itk).T.astype(np.float32))
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-3)
    np.testing.assert_allclose(found.affine, itk_affine(itk), atol=1e-3)
