"""Pictures: the patient's right is on the left, organs have their colours, names are there."""

import itertools
import struct

import matplotlib as mpl  # noqa: TID253
import numpy as np  # noqa: TID253
import pytest
import SimpleITK as sitk  # noqa: TID253
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: TID253
from matplotlib.colors import to_rgb  # noqa: TID253

from reglora_core.agreement import MaskScore
from reglora_core.errors import OutputError
from reglora_core.evaluation import Evaluation, OrganScore
from reglora_core.organs import Organ
from reglora_core.pictures import (
    MethodDice,
    draw_annotated_slices,
    draw_comparison,
    draw_result,
    draw_training,
    save,
)
from reglora_core.pictures.anatomy import Anatomy, best_slices, body_box, choose_window
from reglora_core.pictures.style import DPI
from reglora_core.volumes import LabelMap

SHAPE = (20, 32, 40)  # z, y, x of the body as it lies: superior, posterior, left
SPACING_MM = (5.0, 2.0, 2.0)
LEFT = Organ(1, "left_marker", (255, 0, 0))
FRONT = Organ(2, "front_marker", (0, 255, 0))
HEAD = Organ(3, "head_marker", (0, 0, 255))
ORGANS = (LEFT, FRONT, HEAD)


def a_body():
    """A CT of a box of tissue in air, and markers at the patient's left, in front and on top."""
    intensities = np.full(SHAPE, -1000, dtype=np.int16)
    intensities[1:19, 3:29, 3:37] = 40
    layer = np.zeros(SHAPE, dtype=np.uint16)
    layer[8:12, 13:19, 30:35] = LEFT.value
    layer[8:12, 4:9, 17:23] = FRONT.value
    layer[16:18, 13:19, 17:23] = HEAD.value
    return intensities, layer


def stored(array, order, flips):
    """Return a canonical array stored with other axes: permuted, then flipped."""
    return np.flip(array.transpose(order), flips).copy()


def a_scan(order=(0, 1, 2), flips=()):
    """Return the body as an image whose axes are permuted and flipped, and its label map."""
    intensities, layer = a_body()
    image = sitk.GetImageFromArray(stored(intensities, order, flips))
    directions = np.eye(3)[::-1][list(order)]  # of the stored axes z, y, x in the patient (LPS)
    directions[list(flips)] *= -1
    image.SetDirection(directions[::-1].T.ravel().tolist())
    image.SetSpacing([SPACING_MM[k] for k in order][::-1])
    return image, LabelMap(ORGANS, (stored(layer, order, flips),), (0, 0, 0))


ORIENTATIONS = [
    (order, flips)
    for order in itertools.permutations(range(3))
    for flips in [(), (0,), (1, 2), (0, 1, 2)]
]


def pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(float)


def place_of(organ, figure, axes):
    """Return where an organ's colour is within the axes, as (right, down) from 0 to 1."""
    picture = pixels(figure)
    height, width = picture.shape[:2]
    box = axes.get_position()
    rows = slice(round((1 - box.y1) * height), round((1 - box.y0) * height))
    columns = slice(round(box.x0 * width), round(box.x1 * width))
    inside = picture[rows, columns]
    channel = int(np.argmax(organ.color))
    others = [k for k in range(3) if k != channel]
    is_there = inside[..., channel] - inside[..., others].max(axis=-1) > 40
    down, right = (place.mean() for place in np.nonzero(is_there))
    return right / inside.shape[1], down / inside.shape[0]


def tiles_of(figure):
    return [axes for axes in figure.axes if axes.get_gid() != "legend"]


def texts_of(figure):
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    return found + [text.get_text() for text in figure.texts]


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_slices_are_drawn_as_radiologists_look_at_them(order, flips):
    image, label_map = a_scan(order, flips)

    figure = draw_result(image, label_map)
    axial, coronal, sagittal = tiles_of(figure)

    assert place_of(LEFT, figure, axial)[0] == pytest.approx(0.8, abs=0.08)
    assert place_of(FRONT, figure, axial)[1] == pytest.approx(0.2, abs=0.08)
    assert place_of(LEFT, figure, coronal)[0] == pytest.approx(0.8, abs=0.08)
    assert place_of(HEAD, figure, coronal)[1] == pytest.approx(0.15, abs=0.08)
    assert place_of(FRONT, figure, sagittal)[0] == pytest.approx(0.2, abs=0.08)
    assert place_of(HEAD, figure, sagittal)[1] == pytest.approx(0.15, abs=0.08)


def test_pixels_keep_the_proportions_of_the_body():
    figure = draw_result(*a_scan())

    width, height = figure.get_size_inches()
    boxes = [axes.get_position() for axes in tiles_of(figure)]
    shown = [(box.width * width, box.height * height) for box in boxes]
    box = body_box(Anatomy.of(a_scan()[0]))
    z, y, x = ((side.stop - side.start) * mm for side, mm in zip(box, SPACING_MM, strict=True))
    assert shown[0][0] / shown[0][1] == pytest.approx(x / y)
    assert shown[1][0] / shown[1][1] == pytest.approx(x / z)
    assert shown[2][0] / shown[2][1] == pytest.approx(y / z)
    assert shown[0][0] == pytest.approx(shown[1][0])  # one scale for all


@pytest.mark.parametrize(("order", "flips"), [((0, 1, 2), ()), ((2, 0, 1), (0, 2))])
def test_annotated_slices_are_those_of_the_image_as_stored(order, flips):
    image, label_map = a_scan(order, flips)
    axis = order.index(0)  # the stored axis that is superior
    last = SHAPE[0] - 1
    slices = [last - index if axis in flips else index for index in (9, 17)]

    figure = draw_annotated_slices(image, label_map, axis, slices)

    low, high = tiles_of(figure)
    assert f"slice {slices[0]}" in low.get_title()
    assert f"slice {slices[1]}" in high.get_title()
    assert place_of(LEFT, figure, low)[0] == pytest.approx(0.8, abs=0.08)
    assert place_of(HEAD, figure, high)[0] == pytest.approx(0.5, abs=0.08)


def test_a_title_says_where_the_slice_lies_in_the_patient():
    image, label_map = a_scan()
    image.SetOrigin((0.0, 0.0, -100.0))

    figure = draw_annotated_slices(image, label_map, 0, [9])

    assert tiles_of(figure)[0].get_title() == "axial  ·  slice 9  ·  I 55 mm"


def test_an_outline_has_the_organs_colour():
    image, label_map = a_scan()

    axes = tiles_of(draw_annotated_slices(image, label_map, 0, [9]))[0]

    colors = [tuple(one.get_edgecolor()[0][:3]) for one in axes.collections]
    assert sorted(colors) == [(0.0, 1.0, 0.0), (1.0, 0.0, 0.0)]


def test_the_legend_names_every_organ():
    image, label_map = a_scan()

    texts = texts_of(draw_annotated_slices(image, label_map, 0, [9, 17]))

    assert {"left marker", "front marker", "head marker"} <= set(texts)
    assert "2 annotated slices" in texts


def test_the_legend_of_a_result_has_the_dice_and_its_mean():
    image, label_map = a_scan()
    scores = [
        OrganScore(organ.name, organ.value, MaskScore(dice, 1.0, 1.0, 1.0, 1.0, 9))
        for organ, dice in zip(ORGANS, (0.9, 0.8, 0.4), strict=True)
    ]

    texts = texts_of(draw_result(image, label_map, label_map, Evaluation(tuple(scores))))

    assert {"0.90", "0.80", "0.40", "mean", "0.70", "Prediction", "Reference"} <= set(texts)


def test_a_result_shows_slices_that_were_not_annotated():
    image, label_map = a_scan()

    figure = draw_result(image, label_map, annotated=(0, [8, 9, 10]))

    assert "slice 11" in tiles_of(figure)[0].get_title()


def test_the_slice_with_most_organs_is_chosen():
    image, label_map = a_scan()

    axial, coronal, sagittal = best_slices(Anatomy.of(image), label_map)

    assert axial in range(8, 12)  # left and front, not head alone
    assert coronal in range(13, 19)  # left and head
    assert sagittal in range(17, 23)  # front and head


def test_air_around_the_body_and_the_table_is_not_drawn():
    intensities = np.full((20, 60, 60), -1000, dtype=np.int16)
    intensities[:, 10:40, 15:45] = 40
    intensities[:, 55, 5:55] = 300
    image = sitk.GetImageFromArray(intensities)
    image.SetSpacing((3.0, 3.0, 3.0))

    _, rows, columns = body_box(Anatomy.of(image))

    assert (rows.start, rows.stop) == (9, 41)
    assert (columns.start, columns.stop) == (14, 46)


def test_ct_has_the_soft_tissue_window_and_other_images_their_percentiles():
    ct = np.full((4, 10, 10), 40.0)
    ct[:2] = -1000.0
    mr = np.arange(1000.0).reshape(10, 10, 10)

    assert choose_window(ct) == (-160.0, 240.0)
    low, high = choose_window(mr)
    assert low == pytest.approx(9.99)
    assert high == pytest.approx(994.005)


def test_many_slices_are_drawn_in_rows_of_five():
    image, label_map = a_scan()

    figure = draw_annotated_slices(image, label_map, 0, list(range(1, 13)))

    tops = [round(axes.get_position().y1, 6) for axes in tiles_of(figure)]
    assert [tops.count(top) for top in sorted(set(tops), reverse=True)] == [5, 5, 2]


def events_of_a_training():
    yield {"event": "started", "time": 0.0}
    for step in range(10):
        yield {"event": "progress", "time": float(step), "stage": "head", "loss": 2.0 - 0.1 * step}
    yield {"event": "progress", "time": 10.0, "stage": "arena", "loss": None}
    yield {"event": "progress", "time": 11.0, "stage": "arena", "loss": 0.5}
    yield {"event": "preview", "time": 10.5, "file": "preview.seg.nrrd"}
    yield {"event": "ranks", "time": 11.0, "ranks": {"down": 8, "up": 8}}
    yield {"event": "ranks", "time": 12.0, "ranks": {"down": 3, "up": 6}}


def test_a_training_shows_the_loss_of_each_stage():
    loss = draw_training(list(events_of_a_training())).axes[0]

    lines = {line.get_label(): line for line in loss.lines}
    assert {"head", "arena", "preview"} <= set(lines)
    assert lines["arena"].get_xydata().tolist() == [[11.0, 0.5]]
    assert loss.lines[0].get_ydata()[3] == pytest.approx(1.7)
    assert lines["head"].get_ydata()[5] == pytest.approx(1.5)  # a straight line stays straight


@pytest.mark.parametrize(
    ("losses", "lengths"),
    [
        ([3.0, 1.0, 0.5, 0.4, 0.4, 0.4, 0.3, 2.9, 0.8, 0.4, 0.4, 0.3, 0.3], [7, 7, 6, 6]),
        ([3.0, 1.0, 1.5, 0.4, 2.9, 0.8, 1.3], [7, 7]),
        ([3.0, 1.0, 0.5, 0.4, 0.4, 0.4, 0.3, 2.9, 0.4, 0.3, 0.3, 0.3, 2.9], [13, 13]),
    ],
    ids=["smooth", "noisy", "hard crop"],
)
def test_a_fit_that_starts_anew_is_a_line_of_its_own_unless_the_loss_is_noisy(losses, lengths):
    events = [
        {"event": "progress", "time": float(second), "stage": "head", "loss": loss}
        for second, loss in enumerate(losses)
    ]

    lines = draw_training(events).axes[0].lines

    assert [len(line.get_xydata()) for line in lines] == lengths
    assert [line.get_label() for line in lines].count("head") == 1


def test_a_training_shows_the_rank_of_each_layer_over_time():
    ranks = draw_training(list(events_of_a_training())).axes[1]

    assert [label.get_text() for label in ranks.get_yticklabels()] == ["down", "up"]
    assert ranks.collections[0].get_array().tolist() == [[8, 3], [8, 6]]
    assert ranks.get_title(loc="left") == "rank of each layer: 16 in all at first, 9 at the end"


def test_a_training_without_events_says_so():
    figure = draw_training([])

    assert len(figure.axes) == 1
    assert "no loss was reported" in texts_of(figure)


def test_a_layer_that_appears_later_has_no_rank_before():
    events = [
        {"event": "ranks", "time": 0.0, "ranks": {"a": 2}},
        {"event": "ranks", "time": 1.0, "ranks": {"a": 2, "b": 1}},
    ]

    ranks = draw_training(events).axes[1].collections[0].get_array()

    assert ranks.tolist() == [[2.0, 2.0], [None, 1.0]]


def test_a_comparison_has_a_bar_per_method_and_organ_and_the_mean():
    figure = draw_comparison(
        [
            MethodDice("ours", {"liver": 0.9, "spleen": 0.8}, seconds=130.0),
            MethodDice("grow from seeds", {"liver": 0.8, "spleen": float("nan")}, seconds=2.0),
        ]
    )

    axes = figure.axes[0]
    assert [bar.get_height() for bar in axes.containers[0]] == pytest.approx([0.9, 0.8, 0.85])
    assert [bar.get_height() for bar in axes.containers[1]] == pytest.approx([0.8, 0.0, 0.8])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["liver", "spleen", "mean"]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["ours  (2 min)", "grow from seeds  (2.0 s)"]
    first, second = (container[0].get_facecolor()[:3] for container in axes.containers)
    assert first == to_rgb("#5ab0ff")
    assert first != second


def test_a_saved_picture_is_a_png_of_the_figures_size(tmp_path):
    figure = draw_comparison([MethodDice("ours", {"liver": 0.9})])
    path = tmp_path / "picture.png"

    save(figure, path)

    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    expected = tuple(int(inches * DPI) for inches in figure.get_size_inches())
    assert struct.unpack(">II", content[16:24]) == expected
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path):
    figure = draw_comparison([MethodDice("ours", {"liver": 0.9})])

    with pytest.raises(OutputError):
        save(figure, tmp_path / "missing" / "picture.png")


def test_drawing_leaves_the_global_settings_alone():
    before = dict(mpl.rcParams)

    draw_training(list(events_of_a_training()))
    draw_result(*a_scan())

    assert dict(mpl.rcParams) == before
