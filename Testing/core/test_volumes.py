"""Reading images and writing files."""

from __future__ import annotations

import errno
import gzip
import math
import os
import re
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np  # noqa: TID253
import pytest
import SimpleITK as sitk  # noqa: TID253

from reglora_core.errors import InputError, OutputError
from reglora_core.volumes import read_image, write_atomically, write_text

OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
FLIPPED = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
PERMUTED = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def ramp(shape: tuple[int, ...] = (3, 4, 5), dtype: str = "int16") -> sitk.Image:
    return sitk.GetImageFromArray(np.arange(math.prod(shape)).reshape(shape).astype(dtype))


def written(path: Path, image: sitk.Image) -> Path:
    sitk.WriteImage(image, str(path))
    return path


def nifti_bytes(
    spacing: tuple[float, float, float] = (1, 1, 1),
    rows: tuple[tuple[float, ...], ...] = ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0)),
    codes: tuple[int, int] = (0, 1),
    dim: tuple[int, ...] = (3, 4, 5, 6, 1, 1, 1, 1),
) -> bytes:
    """A NIfTI-1 file of int16 voxels 0, 1, 2, ..., its header written by hand."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, *dim)
    struct.pack_into("<hh", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 1, *spacing, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    struct.pack_into("<f", header, 112, 1)
    struct.pack_into("<hh", header, 252, *codes)
    for number, row in enumerate(rows):
        struct.pack_into("<4f", header, 280 + 16 * number, *row)
    header[344:348] = b"n+1\0"
    return bytes(header) + np.arange(math.prod(dim[1 : 1 + dim[0]]), dtype="<i2").tobytes()


def nrrd_bytes(directions: str) -> bytes:
    header = f"""NRRD0004
type: float
dimension: 3
space: left-posterior-superior
sizes: 4 5 6
space directions: {directions}
kinds: domain domain domain
endian: little
encoding: raw
space origin: (0,0,0)

"""
    return header.encode() + np.arange(120, dtype="<f4").tobytes()


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_image(path)
    text = str(caught.value)
    assert "\n" not in text
    assert path.name in text
    assert caught.value.hint
    return text


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha", ".mhd"])
@pytest.mark.parametrize("direction", [OBLIQUE, FLIPPED, PERMUTED])
def test_voxels_and_geometry_are_read_as_they_are(
    tmp_path: Path, suffix: str, direction: tuple[float, ...]
) -> None:
    image = ramp()
    image.SetSpacing((0.5, 1.25, 3.0))
    image.SetOrigin((-10.0, 20.0, 5.5))
    image.SetDirection(direction)
    read = read_image(written(tmp_path / f"Scan von Jürgen 肝{suffix}", image))
    assert read.GetSize() == (5, 4, 3)
    assert read.GetSpacing() == pytest.approx((0.5, 1.25, 3.0), abs=1e-6)
    assert read.GetOrigin() == pytest.approx((-10.0, 20.0, 5.5), abs=1e-6)
    assert read.GetDirection() == pytest.approx(direction, abs=1e-6)
    assert sitk.GetArrayFromImage(read).ravel().tolist() == list(range(60))


def test_a_4d_file_with_one_time_point_is_a_volume(tmp_path: Path) -> None:
    image = sitk.JoinSeries([ramp()])
    read = read_image(written(tmp_path / "one.nrrd", image))
    assert read.GetSize() == (5, 4, 3)


def test_two_voxels_along_an_axis_are_enough(tmp_path: Path) -> None:
    assert read_image(written(tmp_path / "thin.nrrd", ramp((2, 4, 5)))).GetSize() == (5, 4, 2)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "absent.nii.gz")


@pytest.mark.parametrize("name", ["empty.nii.gz", "empty.nrrd"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert "is empty" in refusal(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["notes.txt", "notes.nii.gz", "notes.nii", "notes.nrrd", "notes.mha"]
)
def test_a_file_that_is_no_image_is_refused_quietly(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text("some notes " * 200)
    refusal(tmp_path / name)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kept", [400, 360, 200, 100])
def test_a_nifti_file_cut_short_is_refused(tmp_path: Path, kept: int) -> None:
    file = tmp_path / "cut.nii"
    file.write_bytes(nifti_bytes()[:kept])
    refusal(file)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95, 0.999])
def test_a_compressed_nifti_file_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    whole = gzip.compress(nifti_bytes(dim=(3, 40, 50, 6, 1, 1, 1, 1)))
    file = tmp_path / "cut.nii.gz"
    file.write_bytes(whole[: int(share * len(whole))])
    assert "cut short" in refusal(file)


def test_a_compressed_nifti_file_with_a_changed_byte_is_refused(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(nifti_bytes(dim=(3, 40, 50, 6, 1, 1, 1, 1))))
    whole[len(whole) // 2] ^= 0xFF
    file = tmp_path / "changed.nii.gz"
    file.write_bytes(whole)
    assert "damaged" in refusal(file)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_other_files_cut_short_are_refused_quietly(
    tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / f"cut{suffix}", ramp((10, 20, 30)))
    file.write_bytes(file.read_bytes()[:-2000])
    assert "damaged or incomplete" in refusal(file)
    assert capfd.readouterr().err == ""


def test_a_raw_file_that_its_header_names_must_be_there(tmp_path: Path) -> None:
    file = written(tmp_path / "scan.mhd", ramp())
    (tmp_path / "scan.raw").unlink()
    refusal(file)


def test_a_file_that_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path / "secret.nrrd", ramp())

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", refuse)
    assert "cannot be opened (Permission denied)" in refusal(file)


def test_a_2d_image_is_refused(tmp_path: Path) -> None:
    assert "2D (5 x 4)" in refusal(written(tmp_path / "flat.nrrd", ramp((4, 5))))


@pytest.mark.parametrize("shape", [(1, 4, 5), (4, 1, 5), (4, 5, 1)])
def test_a_single_slice_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert "single slice" in refusal(written(tmp_path / "slice.nrrd", ramp(shape)))


def test_several_time_points_are_refused(tmp_path: Path) -> None:
    image = sitk.JoinSeries([ramp(), ramp()])
    assert "4D (5 x 4 x 3 x 2)" in refusal(written(tmp_path / "cine.nrrd", image))


def test_colours_are_refused(tmp_path: Path) -> None:
    color = sitk.Compose([sitk.Cast(ramp(), sitk.sitkUInt8)] * 3)
    assert "3 values per voxel" in refusal(written(tmp_path / "color.nrrd", color))


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    image = sitk.RealAndImaginaryToComplex(ramp(dtype="float32"), ramp(dtype="float32"))
    assert "complex numbers" in refusal(written(tmp_path / "raw.nii", image))


@pytest.mark.parametrize(
    ("spacing", "shown"),
    [((0.0, 1.0, 1.0), "0 x 1 x 1"), ((1.0, -2.0, 1.0), "1 x -2 x 1"), ((math.nan, 1, 1), "nan")],
)
def test_a_nifti_voxel_size_that_is_not_positive_is_refused(
    tmp_path: Path, spacing: tuple[float, float, float], shown: str
) -> None:
    file = tmp_path / "spacing.nii"
    file.write_bytes(nifti_bytes(spacing=spacing, codes=(1, 0)))
    assert shown in refusal(file)


@pytest.mark.parametrize("size", [0, -2])
def test_a_nifti_voxel_size_must_be_positive_even_beside_a_matrix(
    tmp_path: Path, size: float
) -> None:
    file = tmp_path / "matrix.nii"
    rows = ((2.0, 0, 0, 0), (0, 2.0, 0, 0), (0, 0, 2.0, 0))
    file.write_bytes(nifti_bytes(spacing=(size, 2, 2), rows=rows))
    assert f"{size} x 2 x 2 mm" in refusal(file)


def test_two_nifti_voxel_sizes_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "matrix.nii"
    rows = ((2.0, 0, 0, 0), (0, 2.0, 0, 0), (0, 0, 2.0, 0))
    file.write_bytes(nifti_bytes(spacing=(1, 2, 2), rows=rows))
    text = refusal(file)
    assert "1 x 2 x 2 mm (pixdim)" in text
    assert "2 x 2 x 2 mm (sform)" in text


@pytest.mark.parametrize("spacing", [0.001, 51.0])
def test_an_absurd_voxel_size_is_refused(tmp_path: Path, spacing: float) -> None:
    image = ramp()
    image.SetSpacing((1.0, 1.0, spacing))
    assert f"1 x 1 x {spacing:g} mm" in refusal(written(tmp_path / "far.nrrd", image))


@pytest.mark.parametrize("directions", ["(0,0,0) (0,1,0) (0,0,1)", "(1,0,0) (1,0,0) (0,0,1)"])
def test_axes_that_span_no_grid_are_refused(tmp_path: Path, directions: str) -> None:
    file = tmp_path / "degenerate.nrrd"
    file.write_bytes(nrrd_bytes(directions))
    refusal(file)


def test_a_sheared_nrrd_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "sheared.nrrd"
    file.write_bytes(nrrd_bytes("(1,0,0) (0.2,1,0) (0,0,1)"))
    assert "not at right angles" in refusal(file)


@pytest.mark.parametrize("shear", [0.3, 0.002])
def test_a_sheared_nifti_is_refused(
    tmp_path: Path, shear: float, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sheared.nii"
    rows = ((1, shear, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0))
    file.write_bytes(nifti_bytes(spacing=(1, math.hypot(1, shear), 1), rows=rows))
    assert "not at right angles" in refusal(file)
    assert capfd.readouterr().err == ""


def test_the_rounding_of_a_nifti_matrix_is_forgiven(tmp_path: Path) -> None:
    file = tmp_path / "rounded.nii"
    file.write_bytes(nifti_bytes(rows=((1, 2e-5, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0))))
    assert read_image(file).GetSize() == (4, 5, 6)


def test_a_nifti_matrix_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "nan.nii"
    file.write_bytes(nifti_bytes(rows=((math.nan, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0))))
    assert "not a number" in refusal(file)


def test_voxels_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    image = ramp(dtype="float32")
    image[0, 0, 0] = math.nan
    image[1, 0, 0] = math.inf
    image[2, 0, 0] = -math.inf
    assert "3 voxels are NaN or infinite" in refusal(written(tmp_path / "nan.nrrd", image))


def test_a_constant_image_is_refused(tmp_path: Path) -> None:
    image = sitk.Image(5, 4, 3, sitk.sitkInt16) - 1000
    assert "every voxel is -1000" in refusal(written(tmp_path / "air.nrrd", image))


def dicom_series(
    folder: Path, positions: list[tuple[float, float, float]], series: str = "1.2.3"
) -> None:
    """Write 6 x 5 DICOM slices of value 10 x number at the given positions."""
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, position in enumerate(positions):
        plane = sitk.Image(6, 5, sitk.sitkInt16) + 10 * number
        plane.SetSpacing((0.5, 0.5))
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{series}.{number + 1}",
            "0008|0060": "CT",
            "0020|000d": "1.2",
            "0020|000e": series,
            "0020|0013": str(number),
            "0020|0032": "\\".join(map(str, position)),
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }
        for tag, value in tags.items():
            plane.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{series}_{number}.dcm"))
        writer.Execute(plane)


def test_a_dicom_folder_is_read_as_one_volume(tmp_path: Path) -> None:
    folder = tmp_path / "Séries 1"
    dicom_series(folder, [(-7.0, 3.0, 2.5 * number) for number in range(4)])
    image = read_image(folder)
    assert image.GetSize() == (6, 5, 4)
    assert image.GetSpacing() == pytest.approx((0.5, 0.5, 2.5))
    assert image.GetOrigin() == pytest.approx((-7.0, 3.0, 0.0))
    assert [image[0, 0, k] for k in range(4)] == [0, 10, 20, 30]


def test_a_folder_with_several_series_lists_them(tmp_path: Path) -> None:
    dicom_series(tmp_path, [(0, 0, number) for number in range(4)], "1.2.3")
    dicom_series(tmp_path, [(0, 0, number) for number in range(3)], "1.2.4")
    text = refusal(tmp_path)
    assert "2 DICOM series" in text
    assert re.search(r"1\.2\.3\S* \(4 slices\), 1\.2\.4\S* \(3 slices\)", text)


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    assert "no DICOM files" in refusal(tmp_path)


def test_the_working_folder_is_named_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dicom_series(tmp_path / "gap", [(0, 0, z) for z in (0, 2, 4, 8, 10)])
    monkeypatch.chdir(tmp_path / "gap")
    with pytest.raises(InputError, match="gap: slices are not evenly spaced"):
        read_image(Path())


def test_a_missing_dicom_slice_is_noticed(tmp_path: Path) -> None:
    dicom_series(tmp_path / "gap", [(0, 0, z) for z in (0, 2, 4, 8, 10)])
    assert "not evenly spaced (2.00 to 4.00 mm)" in refusal(tmp_path / "gap")


def test_a_tilted_gantry_is_refused(tmp_path: Path) -> None:
    dicom_series(tmp_path / "tilt", [(0, 0.5 * k, 2.0 * k) for k in range(4)])
    assert "shift sideways by 0.50 mm" in refusal(tmp_path / "tilt")


def test_a_single_dicom_slice_asks_for_its_folder(tmp_path: Path) -> None:
    dicom_series(tmp_path / "one", [(0, 0, 0)])
    text = refusal(tmp_path / "one" / "1.2.3_0.dcm")
    assert "single slice" in text
    assert "folder" in text


def test_a_folder_named_like_a_file_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").mkdir()
    assert "no DICOM files" in refusal(tmp_path / "scan.nii.gz")


def test_stderr_is_whole_after_many_threads_have_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("some notes")

    def read(_: int) -> str:
        return refusal(tmp_path / "notes.txt")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(read, range(64)))
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


@pytest.mark.data
def test_a_real_dicom_series_is_read(data_folder: Path) -> None:
    image = read_image(data_folder / "ct_upper_abdomen_dicom" / "dicom")
    assert image.GetSize() == (512, 512, 20)
    assert image.GetSpacing() == pytest.approx((0.9765625, 0.9765625, 2.0))


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "size"),
    [("ct_abdomen_3mm/ct.nii.gz", (122, 101, 112)), ("ct_crlm_1004/ct.nii.gz", (512, 512, 41))],
)
def test_real_scans_are_read(data_folder: Path, name: str, size: tuple[int, ...]) -> None:
    assert read_image(data_folder / name).GetSize() == size


def test_text_is_written_as_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "größe.txt", "é\n")
    assert (tmp_path / "größe.txt").read_bytes() == b"\xc3\xa9\n"
    assert [file.name for file in tmp_path.iterdir()] == ["größe.txt"]


def test_the_temporary_file_has_the_same_suffix(tmp_path: Path) -> None:
    names: list[str] = []

    def write(temporary: Path) -> None:
        names.append(temporary.name)
        assert temporary.parent == tmp_path
        temporary.write_text("x")

    write_atomically(tmp_path / "labels.seg.nrrd", write)
    assert names[0].endswith(".seg.nrrd")
    assert names[0] != "labels.seg.nrrd"


def test_what_a_link_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EACCES, "no permission"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "check the folder"),
    ],
)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, code: int, hint: str
) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half of i")
        raise OSError(code, os.strerror(code))

    with pytest.raises(OutputError, match=hint) as caught:
        write_atomically(target, fail)
    assert str(target) in str(caught.value)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def interrupted(temporary: Path) -> None:
        temporary.write_text("half of i")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "report.json", interrupted)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the folder does not exist"):
        write_text(tmp_path / "absent" / "report.json", "x")


def test_a_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "report.json").mkdir()
    with pytest.raises(OutputError, match="that is a folder"):
        write_text(tmp_path / "report.json", "x")


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="a part of the path is a file"):
        write_text(tmp_path / "file" / "report.json", "x")


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="too long"):
        write_text(tmp_path / ("x" * 300), "x")


def test_writing_needs_nothing_beyond_the_standard_library() -> None:
    check = (
        "import sys, reglora_core.writing, reglora_core.organs; "
        "sys.exit(bool({'numpy', 'SimpleITK', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
