"""Label maps: reading them onto an image's grid and writing them."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np  # noqa: TID253
import pytest
import SimpleITK as sitk  # noqa: TID253
from numpy.typing import NDArray  # noqa: TID253

from reglora_core.errors import InputError, OutputError
from reglora_core.organs import Organ, organ
from reglora_core.volumes import LabelMap, read_image, read_labels, write_segmentation

SHAPE = (4, 5, 6)  # z, y, x
OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
FLIPPED = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
PERMUTED = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
LIVER_ENTRY = (
    "Segmentation category and type - DICOM master list"
    "~SCT^123037004^Anatomical Structure~SCT^10200004^Liver~^^"
    "~Anatomic codes - DICOM master list~^^~^^"
)


@pytest.fixture(params=[OBLIQUE, FLIPPED, PERMUTED], ids=["oblique", "flipped", "permuted"])
def an_image(request: pytest.FixtureRequest) -> sitk.Image:
    image = sitk.GetImageFromArray(np.arange(math.prod(SHAPE), dtype=np.int16).reshape(SHAPE))
    image.SetSpacing((0.5, 1.25, 3.0))
    image.SetOrigin((-10.0, 20.0, 5.5))
    image.SetDirection(request.param)
    return image


@pytest.fixture
def a_plain_image() -> sitk.Image:
    return sitk.GetImageFromArray(np.arange(math.prod(SHAPE), dtype=np.int16).reshape(SHAPE))


def painted(*spots: tuple[int, tuple[slice, slice, slice]]) -> NDArray[np.uint8]:
    values = np.zeros(SHAPE, np.uint8)
    for value, where in spots:
        values[where] = value
    return values


TWO_ORGANS = painted(
    (1, np.s_[1, 1:3, 2:5]),  # 6 voxels
    (5, np.s_[2, 0:2, 0:2]),  # 4 voxels
)


def label_file(path: Path, values: NDArray[np.generic], like: sitk.Image | None = None) -> Path:
    image = sitk.GetImageFromArray(values)
    if like is not None:
        image.CopyInformation(like)
    sitk.WriteImage(image, str(path))
    return path


def refusal(path: Path, image: sitk.Image, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        read_labels(path, image, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    assert path.name in text
    assert caught.value.hint
    return text


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_label_map_is_read_with_its_values(
    tmp_path: Path, an_image: sitk.Image, suffix: str
) -> None:
    labels = read_labels(label_file(tmp_path / f"Maske ä{suffix}", TWO_ORGANS, an_image), an_image)
    assert [(item.value, item.name) for item in labels.organs] == [(1, "label_1"), (5, "label_5")]
    assert labels.layer_of == (0, 0)
    assert labels.layers[0].dtype == np.uint16
    assert np.array_equal(labels.layers[0], TWO_ORGANS)
    assert np.array_equal(labels.mask(1), TWO_ORGANS == 5)
    assert np.count_nonzero(labels.painted()) == 10
    assert not labels.has_overlap
    assert labels.ignored is None


def test_names_bring_colours_and_terminology(tmp_path: Path, a_plain_image: sitk.Image) -> None:
    file = label_file(tmp_path / "l.nrrd", TWO_ORGANS)
    labels = read_labels(file, a_plain_image, {1: "liver", 5: "my lesion", 9: "absent"})
    assert labels.organs[0] == Organ(1, "liver", (221, 130, 101), LIVER_ENTRY)
    assert [item.name for item in labels.organs] == ["liver", "my lesion"]


def test_a_value_without_a_name_is_refused_if_others_have_one(
    tmp_path: Path, a_plain_image: sitk.Image
) -> None:
    file = label_file(tmp_path / "l.nrrd", TWO_ORGANS)
    assert "label value 5 has no name" in refusal(file, a_plain_image, names={1: "liver"})


def test_ignored_voxels_are_set_apart(tmp_path: Path, a_plain_image: sitk.Image) -> None:
    values = painted((1, np.s_[1, 1:3, 2:5]), (255, np.s_[0]))
    labels = read_labels(label_file(tmp_path / "l.nrrd", values), a_plain_image, ignore_label=255)
    assert [item.value for item in labels.organs] == [1]
    assert labels.ignored is not None
    assert np.array_equal(labels.ignored, values == 255)
    assert np.count_nonzero(labels.painted()) == 6


def test_nothing_but_ignored_voxels_is_no_paint(tmp_path: Path, a_plain_image: sitk.Image) -> None:
    file = label_file(tmp_path / "l.nrrd", painted((9, np.s_[0])))
    assert "0 labelled voxels" in refusal(file, a_plain_image, ignore_label=9)


def test_axes_flipped_against_the_image_are_turned_back(
    tmp_path: Path, a_plain_image: sitk.Image
) -> None:
    flipped = sitk.GetImageFromArray(TWO_ORGANS[::-1, :, ::-1].copy())
    flipped.SetOrigin((5.0, 0.0, 3.0))
    flipped.SetDirection((-1, 0, 0, 0, 1, 0, 0, 0, -1))
    sitk.WriteImage(flipped, str(tmp_path / "l.nii.gz"))
    labels = read_labels(tmp_path / "l.nii.gz", a_plain_image)
    assert np.array_equal(labels.layers[0], TWO_ORGANS)


def test_axes_in_another_order_are_put_back(tmp_path: Path, a_plain_image: sitk.Image) -> None:
    turned = sitk.GetImageFromArray(np.ascontiguousarray(TWO_ORGANS.transpose(2, 0, 1)))
    turned.SetDirection((0, 0, 1, 1, 0, 0, 0, 1, 0))  # array axes are now x, z, y
    sitk.WriteImage(turned, str(tmp_path / "l.nrrd"))
    labels = read_labels(tmp_path / "l.nrrd", a_plain_image)
    assert np.array_equal(labels.layers[0], TWO_ORGANS)


def test_a_coarser_grid_is_resampled_to_the_nearest(
    tmp_path: Path, a_plain_image: sitk.Image
) -> None:
    coarse = sitk.GetImageFromArray(np.array([[[0, 0, 3], [0, 0, 0]]], np.uint8).repeat(2, axis=0))
    coarse.SetSpacing((2.0, 2.0, 2.0))
    coarse.SetOrigin((0.5, 0.5, 0.5))
    sitk.WriteImage(coarse, str(tmp_path / "l.nrrd"))
    labels = read_labels(tmp_path / "l.nrrd", a_plain_image)
    assert np.array_equal(labels.layers[0], painted((3, np.s_[:, 0:2, 4:6])))


def test_a_single_cropped_slice_finds_its_place(tmp_path: Path, an_image: sitk.Image) -> None:
    whole = sitk.GetImageFromArray(TWO_ORGANS)
    whole.CopyInformation(an_image)
    sitk.WriteImage(whole[2:5, 1:3, 1:2], str(tmp_path / "l.nrrd"))
    labels = read_labels(tmp_path / "l.nrrd", an_image)
    assert np.array_equal(labels.layers[0], painted((1, np.s_[1, 1:3, 2:5])))


def test_labels_beside_the_image_are_refused_with_both_extents(
    tmp_path: Path, a_plain_image: sitk.Image
) -> None:
    away = sitk.GetImageFromArray(TWO_ORGANS)
    away.SetOrigin((100.0, 0.0, -50.0))
    sitk.WriteImage(away, str(tmp_path / "l.nrrd"))
    text = refusal(tmp_path / "l.nrrd", a_plain_image)
    assert "painted at x 100..104, y 0..2, z -49..-48 mm" in text
    assert "the image covers x 0..5, y 0..4, z 0..3 mm" in text


def test_grids_that_overlap_where_nothing_is_painted_are_refused(
    tmp_path: Path, a_plain_image: sitk.Image
) -> None:
    shifted = sitk.GetImageFromArray(painted((1, np.s_[3, :, :])))
    shifted.SetOrigin((0.0, 0.0, 2.0))
    sitk.WriteImage(shifted, str(tmp_path / "l.nrrd"))
    assert "painted at x 0..5, y 0..4, z 5..5 mm" in refusal(tmp_path / "l.nrrd", a_plain_image)


@pytest.mark.parametrize(
    ("spots", "expected"),
    [((), "0 labelled voxels"), (((1, np.s_[0:1, 0:1, 0:1]),), "1 labelled voxel;")],
)
def test_too_little_paint_is_refused(
    tmp_path: Path, a_plain_image: sitk.Image, spots: tuple[object, ...], expected: str
) -> None:
    file = label_file(tmp_path / "l.nrrd", painted(*spots))  # type: ignore[arg-type]
    text = refusal(file, a_plain_image)
    assert expected in text
    assert "paint at least one slice" in text


def test_whole_numbers_stored_as_floats_are_labels(
    tmp_path: Path, a_plain_image: sitk.Image
) -> None:
    file = label_file(tmp_path / "l.nii.gz", TWO_ORGANS.astype(np.float64))
    assert np.array_equal(read_labels(file, a_plain_image).layers[0], TWO_ORGANS)


@pytest.mark.parametrize(
    ("value", "shown"), [(0.5, "0.5"), (math.nan, "nan"), (math.inf, "infinity"), (-1.0, "-1")]
)
def test_values_that_are_no_labels_are_refused(
    tmp_path: Path, a_plain_image: sitk.Image, value: float, shown: str
) -> None:
    values = TWO_ORGANS.astype(np.float32)
    values[0, 0, 0] = value
    assert shown in refusal(label_file(tmp_path / "l.nrrd", values), a_plain_image)


@pytest.mark.parametrize("value", [-3, 70000])
def test_values_out_of_range_are_refused(
    tmp_path: Path, a_plain_image: sitk.Image, value: int
) -> None:
    values = TWO_ORGANS.astype(np.int32)
    values[0, 0, 0] = value
    text = refusal(label_file(tmp_path / "l.nrrd", values), a_plain_image)
    assert f"label value {value}" in text


def test_an_image_with_more_than_254_values_is_refused(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.uint16).reshape(4, 8, 8)
    file = label_file(tmp_path / "l.nrrd", values)
    image = sitk.GetImageFromArray(values)
    assert "holds 255 labels" in refusal(file, image)
    values[0, 0, 1] = 2  # one fewer: 254
    label_file(file, values)
    assert len(read_labels(file, image).organs) == 254


def test_colours_are_no_labels(tmp_path: Path, a_plain_image: sitk.Image) -> None:
    color = sitk.Compose([sitk.GetImageFromArray(TWO_ORGANS)] * 3)
    sitk.WriteImage(color, str(tmp_path / "l.nrrd"))
    assert "3 values per voxel" in refusal(tmp_path / "l.nrrd", a_plain_image)


def test_one_time_point_is_a_label_map_and_two_are_not(
    tmp_path: Path, a_plain_image: sitk.Image
) -> None:
    labels = sitk.GetImageFromArray(TWO_ORGANS)
    sitk.WriteImage(sitk.JoinSeries([labels]), str(tmp_path / "one.nrrd"))
    sitk.WriteImage(sitk.JoinSeries([labels, labels]), str(tmp_path / "two.nrrd"))
    assert len(read_labels(tmp_path / "one.nrrd", a_plain_image).organs) == 2
    assert "4D" in refusal(tmp_path / "two.nrrd", a_plain_image)


def test_a_missing_label_file_is_named(tmp_path: Path, a_plain_image: sitk.Image) -> None:
    assert "no such file" in refusal(tmp_path / "absent.nrrd", a_plain_image)
    assert "is a folder" in refusal(tmp_path, a_plain_image)


def test_a_label_file_cut_short_is_refused(tmp_path: Path, a_plain_image: sitk.Image) -> None:
    file = label_file(tmp_path / "l.nii", TWO_ORGANS)
    file.write_bytes(file.read_bytes()[:-20])
    assert "cut short" in refusal(file, a_plain_image)


def test_a_sheared_label_grid_is_refused(tmp_path: Path, a_plain_image: sitk.Image) -> None:
    labels = sitk.GetImageFromArray(TWO_ORGANS)
    labels.SetDirection((1, 0.3, 0, 0, 1, 0, 0, 0, 1))
    sitk.WriteImage(labels, str(tmp_path / "l.mha"))
    assert "not at right angles" in refusal(tmp_path / "l.mha", a_plain_image)


def slicer_file(path: Path, layers: list[NDArray[np.uint8]], fields: list[str]) -> Path:
    """Write a .seg.nrrd as Slicer 5 does, cropped to x 1..5, y 1..4, z 1..3 of a 1 mm grid."""
    cropped = [layer[1:, 1:, 1:] for layer in layers]
    is_list = len(layers) > 1
    header = f"""NRRD0004
# Complete NRRD file format specification at:
# http://teem.sourceforge.net/nrrd/format.html
type: unsigned char
dimension: {4 if is_list else 3}
space: left-posterior-superior
sizes: {f"{len(layers)} " if is_list else ""}5 4 3
space directions: {"none " if is_list else ""}(1,0,0) (0,1,0) (0,0,1)
kinds: {"list " if is_list else ""}domain domain domain
encoding: raw
space origin: (1,1,1)
"""
    lines = "".join(f"{field}\n" for field in fields)
    voxels = np.stack(cropped, axis=-1).tobytes()
    path.write_bytes(f"{header}{lines}\n".encode() + voxels)
    return path


def segment(number: int, name: str, value: int, layer: int, tags: str = "|") -> list[str]:
    prefix = f"Segment{number}_"
    return [
        f"{prefix}Color:=0.2 0.4 1",
        f"{prefix}ColorAutoGenerated:=1",
        f"{prefix}Extent:=0 4 0 3 0 2",
        f"{prefix}ID:=Segment_{number}",
        f"{prefix}LabelValue:={value}",
        f"{prefix}Layer:={layer}",
        f"{prefix}Name:={name}",
        f"{prefix}NameAutoGenerated:=1",
        f"{prefix}Tags:={tags}",
    ]


def test_a_slicer_segmentation_brings_names_colours_and_terminology(
    tmp_path: Path, a_plain_image: sitk.Image
) -> None:
    tags = f"Custom:1|TerminologyEntry:{LIVER_ENTRY}|"
    file = slicer_file(
        tmp_path / "s.seg.nrrd",
        [painted((2, np.s_[1, 1:3, 2:5]))],
        segment(0, "Läsion: b", 2, 0, tags) + segment(1, "empty", 3, 0),
    )
    labels = read_labels(file, a_plain_image)
    assert labels.organs == (Organ(2, "Läsion: b", (51, 102, 255), LIVER_ENTRY),)
    assert np.array_equal(labels.layers[0], painted((2, np.s_[1, 1:3, 2:5])))


def test_overlapping_segments_keep_their_voxels_and_get_values_of_their_own(
    tmp_path: Path, a_plain_image: sitk.Image
) -> None:
    lower = painted((1, np.s_[1, 1:4, 1:5]), (2, np.s_[3, 1:4, 1:5]))
    upper = painted((1, np.s_[1:3, 2, 2:4]))
    file = slicer_file(
        tmp_path / "s.seg.nrrd",
        [lower, upper],
        segment(0, "liver", 1, 0) + segment(1, "tumour", 1, 1) + segment(2, "spleen", 2, 0),
    )
    labels = read_labels(file, a_plain_image)
    assert [(item.value, item.name) for item in labels.organs] == [
        (1, "liver"),
        (2, "spleen"),
        (3, "tumour"),
    ]
    assert labels.layer_of == (0, 0, 1)
    assert labels.has_overlap
    assert np.array_equal(labels.mask(0), lower == 1)
    assert np.array_equal(labels.mask(2), upper == 1)
    assert np.count_nonzero(labels.painted()) == 12 + 12 + 2


def test_segments_on_two_layers_that_do_not_overlap_can_be_merged(
    tmp_path: Path, a_plain_image: sitk.Image
) -> None:
    file = slicer_file(
        tmp_path / "s.seg.nrrd",
        [painted((1, np.s_[1, 1:4, 1:5])), painted((1, np.s_[2, 1:4, 1:5]))],
        segment(0, "liver", 1, 0) + segment(1, "spleen", 1, 1),
    )
    labels = read_labels(file, a_plain_image)
    assert not labels.has_overlap
    merged = labels.with_layers_merged()
    assert len(merged.layers) == 1
    assert np.array_equal(
        merged.layers[0], painted((1, np.s_[1, 1:4, 1:5]), (2, np.s_[2, 1:4, 1:5]))
    )


def test_an_old_file_without_layers_has_one_segment_a_layer(
    tmp_path: Path, a_plain_image: sitk.Image
) -> None:
    fields = ["Segment0_ID:=a", "Segment0_Name:=liver", "Segment1_ID:=b", "Segment1_Name:=spleen"]
    layers = [painted((1, np.s_[1, 1:4, 1:5])), painted((1, np.s_[2, 1:4, 1:5]))]
    labels = read_labels(slicer_file(tmp_path / "s.seg.nrrd", layers, fields), a_plain_image)
    assert [(item.value, item.name) for item in labels.organs] == [(1, "liver"), (2, "spleen")]
    assert np.array_equal(labels.mask(1), layers[1] == 1)


def test_voxels_of_no_segment_are_refused(tmp_path: Path, a_plain_image: sitk.Image) -> None:
    file = slicer_file(
        tmp_path / "s.seg.nrrd",
        [painted((1, np.s_[1, 1:4, 1:5]), (7, np.s_[2, 2, 2]))],
        segment(0, "liver", 1, 0),
    )
    assert "label value 7 has no name" in refusal(file, a_plain_image)


def test_a_name_that_is_no_utf8_is_read_and_written(
    tmp_path: Path, a_plain_image: sitk.Image
) -> None:
    file = slicer_file(
        tmp_path / "s.seg.nrrd", [painted((1, np.s_[1, 1:4, 1:5]))], segment(0, "Mxgen", 1, 0)
    )
    file.write_bytes(file.read_bytes().replace(b"Mxgen", b"M\xe4gen"))  # Latin-1
    labels = read_labels(file, a_plain_image)
    assert labels.organs[0].name == "M\N{REPLACEMENT CHARACTER}gen"
    write_segmentation(tmp_path / "out.seg.nrrd", labels, a_plain_image)
    assert read_labels(tmp_path / "out.seg.nrrd", a_plain_image).organs == labels.organs


@pytest.mark.parametrize("name", ["a:=b", "50% \\ new", "|:~^", " two\nlines "])
def test_any_name_comes_back(tmp_path: Path, a_plain_image: sitk.Image, name: str) -> None:
    labels = LabelMap((organ(1, name),), ((TWO_ORGANS > 0).astype(np.uint16),), (0,))
    write_segmentation(tmp_path / "out.seg.nrrd", labels, a_plain_image)
    read = read_labels(tmp_path / "out.seg.nrrd", a_plain_image)
    assert read.organs[0].name == " ".join(name.split())


def test_names_given_replace_those_of_segments(tmp_path: Path, a_plain_image: sitk.Image) -> None:
    file = slicer_file(
        tmp_path / "s.seg.nrrd",
        [painted((1, np.s_[1, 1:4, 1:5]), (2, np.s_[2, 1:4, 1:5]))],
        segment(0, "Segment_1", 1, 0) + segment(1, "spleen", 2, 0),
    )
    labels = read_labels(file, a_plain_image, {1: "liver"})
    assert labels.organs[0] == organ(1, "liver")
    assert labels.organs[1].name == "spleen"


def test_masks_that_overlap_are_packed_on_two_layers() -> None:
    organs = (organ(3, "liver"), organ(1, "tumour"), organ(2, "spleen"))
    masks = [
        painted((1, np.s_[1])) > 0,
        painted((1, np.s_[1, 2])) > 0,
        painted((1, np.s_[2])) > 0,
    ]
    labels = LabelMap.from_masks(organs, masks)
    assert [item.value for item in labels.organs] == [1, 2, 3]
    assert labels.layer_of == (0, 0, 1)
    assert np.array_equal(labels.mask(2), masks[0])
    with pytest.raises(InputError, match="tumour and liver overlap"):
        labels.with_layers_merged()


def overlapping() -> LabelMap:
    organs = (organ(1, "liver"), organ(300, "Läsion 'x'"), organ(4, "spleen"))
    masks = [
        painted((1, np.s_[1, 1:4, 1:5])) > 0,
        painted((1, np.s_[1:3, 2, 2:4])) > 0,
        painted((1, np.s_[3, 0, 0:3])) > 0,
    ]
    return LabelMap.from_masks(organs, masks)


def exclusive() -> LabelMap:
    organs = (organ(1, "liver"), organ(5, "spleen"))
    return LabelMap(organs, (TWO_ORGANS.astype(np.uint16),), (0, 0))


def test_a_segmentation_is_read_back_as_it_was_written(
    tmp_path: Path, an_image: sitk.Image
) -> None:
    file = tmp_path / "Ergebnis ü.seg.nrrd"
    write_segmentation(file, overlapping(), an_image)
    labels = read_labels(file, an_image)
    assert labels.organs == overlapping().organs
    assert labels.layer_of == overlapping().layer_of
    for index in range(3):
        assert np.array_equal(labels.mask(index), overlapping().mask(index))


@pytest.mark.parametrize("suffix", [".seg.nrrd", ".nrrd", ".nii.gz", ".nii", ".mha", ".NII.GZ"])
def test_values_and_geometry_are_the_images(
    tmp_path: Path, an_image: sitk.Image, suffix: str
) -> None:
    file = tmp_path / f"out{suffix}"
    write_segmentation(file, exclusive(), an_image)
    stored = sitk.ReadImage(str(file))
    assert stored.GetPixelID() == sitk.sitkUInt8
    assert np.array_equal(sitk.GetArrayFromImage(stored), TWO_ORGANS)
    assert stored.GetOrigin() == pytest.approx(an_image.GetOrigin(), abs=1e-6)
    assert stored.GetSpacing() == pytest.approx(an_image.GetSpacing(), abs=1e-6)
    assert stored.GetDirection() == pytest.approx(an_image.GetDirection(), abs=1e-6)
    assert [item.name for item in tmp_path.iterdir()] == [file.name]


def rotated(seed: int) -> sitk.Image:
    generator = np.random.default_rng(seed)
    image = sitk.GetImageFromArray(np.arange(math.prod(SHAPE), dtype=np.int16).reshape(SHAPE))
    axes, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    image.SetDirection(axes.ravel().tolist())
    image.SetSpacing(generator.uniform(0.3, 5.0, 3).tolist())
    image.SetOrigin(generator.normal(0, 100, 3).tolist())
    return image


@pytest.mark.parametrize("suffix", [".seg.nrrd", ".nrrd"])
@pytest.mark.parametrize("seed", range(20))
def test_the_geometry_of_an_oblique_nrrd_image_is_kept_to_the_bit(
    tmp_path: Path, suffix: str, seed: int
) -> None:
    sitk.WriteImage(rotated(seed), str(tmp_path / "image.nrrd"))
    image = read_image(tmp_path / "image.nrrd")
    write_segmentation(tmp_path / f"out{suffix}", exclusive(), image)
    stored = sitk.ReadImage(str(tmp_path / f"out{suffix}"))
    assert stored.GetOrigin() == image.GetOrigin()
    assert stored.GetSpacing() == image.GetSpacing()
    assert stored.GetDirection() == image.GetDirection()


@pytest.mark.parametrize("suffix", [".mha", ".nii.gz"])
def test_the_geometry_of_an_oblique_image_is_kept_to_the_bit_in_its_own_format(
    tmp_path: Path, suffix: str
) -> None:
    sitk.WriteImage(rotated(3), str(tmp_path / f"image{suffix}"))
    image = read_image(tmp_path / f"image{suffix}")
    write_segmentation(tmp_path / f"out{suffix}", exclusive(), image)
    stored = sitk.ReadImage(str(tmp_path / f"out{suffix}"))
    # NIfTI holds single precision, and its rotation as a quaternion
    tolerance = 0.0 if suffix == ".mha" else 1e-6
    assert stored.GetOrigin() == pytest.approx(image.GetOrigin(), rel=0, abs=tolerance)
    assert stored.GetSpacing() == pytest.approx(image.GetSpacing(), rel=0, abs=tolerance)
    assert stored.GetDirection() == pytest.approx(image.GetDirection(), rel=0, abs=tolerance)


def test_a_spacing_that_nrrd_cannot_split_off_is_out_by_one_bit_at_most(
    tmp_path: Path, a_plain_image: sitk.Image
) -> None:
    spacing = 3.9200000762939453  # 1 / it * it is not 1
    a_plain_image.SetSpacing((spacing, spacing, 3.0))
    write_segmentation(tmp_path / "out.seg.nrrd", exclusive(), a_plain_image)
    stored = sitk.ReadImage(str(tmp_path / "out.seg.nrrd"))
    assert stored.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert abs(stored.GetSpacing()[0] - spacing) <= math.ulp(spacing)
    assert stored.GetSpacing()[2] == 3.0


def test_values_above_255_are_stored_in_two_bytes(
    tmp_path: Path, a_plain_image: sitk.Image
) -> None:
    values = TWO_ORGANS.astype(np.uint16) * 100
    labels = LabelMap((organ(100, "liver"), organ(500, "spleen")), (values,), (0, 0))
    for suffix in (".seg.nrrd", ".nrrd", ".nii.gz", ".mha"):
        write_segmentation(tmp_path / f"out{suffix}", labels, a_plain_image)
        stored = sitk.ReadImage(str(tmp_path / f"out{suffix}"))
        assert stored.GetPixelID() == sitk.sitkUInt16
        assert np.array_equal(sitk.GetArrayFromImage(stored), values)


def test_the_file_is_compressed(tmp_path: Path) -> None:
    image = sitk.Image(64, 64, 64, sitk.sitkInt16)
    values = np.zeros((64, 64, 64), np.uint16)
    values[20:40, 20:40, 20:40] = 1
    for suffix in (".seg.nrrd", ".nrrd", ".nii.gz", ".mha"):
        write_segmentation(
            tmp_path / f"out{suffix}", LabelMap((organ(1, "liver"),), (values,), (0,)), image
        )
        assert (tmp_path / f"out{suffix}").stat().st_size < 64**3 / 20


def test_the_same_segmentation_gives_the_same_bytes(
    tmp_path: Path, a_plain_image: sitk.Image
) -> None:
    write_segmentation(tmp_path / "a.seg.nrrd", overlapping(), a_plain_image)
    write_segmentation(tmp_path / "b.seg.nrrd", overlapping(), a_plain_image)
    assert (tmp_path / "a.seg.nrrd").read_bytes() == (tmp_path / "b.seg.nrrd").read_bytes()


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_overlaps_are_refused_where_there_is_one_layer(
    tmp_path: Path, a_plain_image: sitk.Image, suffix: str
) -> None:
    with pytest.raises(InputError, match=r"liver and Läsion 'x' overlap.*\.seg\.nrrd"):
        write_segmentation(tmp_path / f"out{suffix}", overlapping(), a_plain_image)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.png", "out", ".nrrd", "out.seg.nhdr"])
def test_an_unknown_suffix_is_refused(tmp_path: Path, a_plain_image: sitk.Image, name: str) -> None:
    with pytest.raises(OutputError, match=re.escape(".seg.nrrd, .nii.gz")):
        write_segmentation(tmp_path / name, exclusive(), a_plain_image)


@pytest.mark.parametrize("suffix", [".seg.nrrd", ".nrrd", ".nii.gz", ".nii", ".mha"])
def test_a_missing_output_folder_is_refused(
    tmp_path: Path, a_plain_image: sitk.Image, suffix: str
) -> None:
    with pytest.raises(OutputError, match="the folder does not exist"):
        write_segmentation(tmp_path / "absent" / f"out{suffix}", exclusive(), a_plain_image)


@pytest.mark.parametrize("suffix", [".seg.nrrd", ".nrrd", ".nii.gz", ".nii", ".mha"])
def test_a_full_disk_is_reported_and_the_old_file_kept(tmp_path: Path, suffix: str) -> None:
    """The limit on file sizes stands in for the disk: a write beyond it fails half way."""
    resource = pytest.importorskip("resource", reason="file size limits are POSIX")
    target = tmp_path / f"out{suffix}"
    target.write_text("old")
    generator = np.random.default_rng(0)
    values = generator.integers(0, 255, (32, 64, 64)).astype(np.uint16)  # does not compress
    image = sitk.GetImageFromArray(values)
    labels = LabelMap(tuple(organ(v, f"o{v}") for v in range(1, 255)), (values,), (0,) * 254)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OutputError) as caught:
            write_segmentation(target, labels, image)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert str(target) in str(caught.value)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.data
def test_real_labels_flipped_against_their_dicom_series_are_turned_exactly(
    data_folder: Path,
) -> None:
    folder = data_folder / "ct_upper_abdomen_dicom"
    image = read_image(folder / "dicom")
    names = {int(k): v for k, v in json.loads((folder / "labels.json").read_text()).items()}
    labels = read_labels(folder / "labels.nii.gz", image, names)
    in_file = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "labels.nii.gz")))
    assert len(labels.organs) == 31
    assert np.array_equal(labels.layers[0], in_file[:, ::-1, :])


@pytest.mark.data
def test_a_real_segmentation_survives_writing_to_the_bit(data_folder: Path, tmp_path: Path) -> None:
    folder = data_folder / "ct_abdomen_3mm"
    image = read_image(folder / "ct.nii.gz")
    names = {int(k): v for k, v in json.loads((folder / "labels.json").read_text()).items()}
    labels = read_labels(folder / "labels.nii.gz", image, names)
    assert len(labels.organs) == 61
    write_segmentation(tmp_path / "out.seg.nrrd", labels, image)
    again = read_labels(tmp_path / "out.seg.nrrd", image)
    stored = sitk.ReadImage(str(tmp_path / "out.seg.nrrd"))
    assert again.organs == labels.organs
    assert np.array_equal(again.layers[0], labels.layers[0])
    assert stored.GetSpacing() == image.GetSpacing()
    assert stored.GetOrigin() == image.GetOrigin()
    assert stored.GetDirection() == image.GetDirection()


SLICER = """
import json, os, sys
import slicer, vtk
scene = slicer.vtkMRMLScene()
node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
storage.SetFileName(sys.argv[1])
found = {"read": storage.ReadData(node), "segments": [],
         "layers": node.GetSegmentation().GetNumberOfLayers(),
         "representation": node.GetSegmentation().GetSourceRepresentationName()}
for sid in node.GetSegmentation().GetSegmentIDs():
    segment = node.GetSegmentation().GetSegment(sid)
    tag = vtk.reference("")
    segment.GetTag("TerminologyEntry", tag)
    labels = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(sid, labels)
    matrix = vtk.vtkMatrix4x4()
    labels.GetImageToWorldMatrix(matrix)
    statistics = vtk.vtkImageAccumulate()
    statistics.SetInputData(labels)
    statistics.IgnoreZeroOn()
    statistics.Update()
    extent = labels.GetExtent()
    found["segments"].append({
        "id": sid, "name": segment.GetName(), "color": segment.GetColor(), "entry": str(tag),
        "value": segment.GetLabelValue(), "layer": node.GetSegmentation().GetLayerIndex(sid),
        "voxels": statistics.GetVoxelCount(),
        "to_world": [matrix.GetElement(r, c) for r in range(4) for c in range(4)],
    })
if len(sys.argv) > 2:
    storage.SetFileName(sys.argv[2])
    found["written"] = storage.WriteData(node)
print("FOUND" + json.dumps(found), flush=True)
os._exit(0)
"""


def read_by_slicer(*files: Path) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", SLICER, *map(str, files)], capture_output=True, check=False
    )
    lines = [line for line in done.stdout.decode().splitlines() if line.startswith("FOUND")]
    assert lines, done.stderr.decode()
    found: dict[str, object] = json.loads(lines[0].removeprefix("FOUND"))
    return found


needs_slicer = pytest.mark.skipif(
    find_spec("slicer") is None, reason="slicer-core is not installed: pip install slicer-core"
)


@needs_slicer
def test_slicer_reads_what_is_written(tmp_path: Path, an_image: sitk.Image) -> None:
    write_segmentation(tmp_path / "é 1.seg.nrrd", overlapping(), an_image)
    found = read_by_slicer(tmp_path / "é 1.seg.nrrd")
    assert found["read"] == 1
    assert found["layers"] == 2
    assert found["representation"] == "Binary labelmap"
    segments: list[dict[str, object]] = found["segments"]  # type: ignore[assignment]
    assert [item["name"] for item in segments] == ["liver", "spleen", "Läsion 'x'"]
    assert [item["voxels"] for item in segments] == [12, 3, 4]
    assert [item["value"] for item in segments] == [1, 4, 300]
    assert segments[0]["entry"] == LIVER_ENTRY
    assert segments[0]["color"] == pytest.approx([221 / 255, 130 / 255, 101 / 255], abs=1e-5)
    axes = np.array(an_image.GetDirection()).reshape(3, 3) * an_image.GetSpacing()
    lps_to_ras = np.diag([-1.0, -1.0, 1.0])
    for item in segments:
        to_world = np.array(item["to_world"]).reshape(4, 4)
        assert np.allclose(to_world[:3, :3], lps_to_ras @ axes, atol=1e-9)
        assert np.allclose(to_world[:3, 3], lps_to_ras @ an_image.GetOrigin(), atol=1e-9)


@needs_slicer
def test_what_slicer_writes_is_read(tmp_path: Path, an_image: sitk.Image) -> None:
    write_segmentation(tmp_path / "ours.seg.nrrd", overlapping(), an_image)
    found = read_by_slicer(tmp_path / "ours.seg.nrrd", tmp_path / "slicers.seg.nrrd")
    assert found["written"] == 1
    labels = read_labels(tmp_path / "slicers.seg.nrrd", an_image)
    names = {item.name: index for index, item in enumerate(labels.organs)}
    assert names.keys() == {"liver", "spleen", "Läsion 'x'"}
    assert np.array_equal(labels.mask(names["liver"]), overlapping().mask(0))
    assert np.array_equal(labels.mask(names["spleen"]), overlapping().mask(1))
    assert np.array_equal(labels.mask(names["Läsion 'x'"]), overlapping().mask(2))
    assert labels.organs[names["liver"]].terminology == LIVER_ENTRY
    assert labels.organs[names["liver"]].color == (221, 130, 101)
