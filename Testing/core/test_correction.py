"""The correction round, and where to paint next, on a small body."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np  # noqa: TID253
import phantom
import pytest
import SimpleITK as sitk  # noqa: TID253
import torch  # noqa: TID253
from phantom import LIVER, SPLEEN
from quick import Events, shorten_fits

from reglora_core import correction
from reglora_core.adaptation import AdaptResult, adapt, read_task
from reglora_core.adapter import Adapter, load_adapter, save_adapter
from reglora_core.cli import main
from reglora_core.correction import choose_route, warm_heads, warm_start
from reglora_core.errors import AdapterError, Cancelled, InputError
from reglora_core.events import ignore, parse
from reglora_core.experts import PaintedGrid
from reglora_core.features import features_at, remembering
from reglora_core.head import HeadConfig
from reglora_core.job import AdaptJob
from reglora_core.models.base import BaseModel
from reglora_core.next_slice import chosen_plane, disagreement
from reglora_core.volumes import read_image, read_labels

SLICES = (14, 25, 36)
NEW = 20
KIDNEY = 3
HIDDEN = [index for index in range(phantom.SIZE) if index not in (*SLICES, NEW)]


def make_quick(patch: pytest.MonkeyPatch) -> None:
    quick = replace(correction.CORRECTION, steps=30, voxels=512)
    patch.setattr(correction, "CORRECTION", quick)
    patch.setattr(correction, "HeadConfig", partial(HeadConfig, steps=60, voxels=512))
    shorten_fits(patch)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


def job_in(folder: Path, weights: Path) -> AdaptJob:
    image, labels = phantom.write_case(folder / "case", SLICES)
    names = {**phantom.NAMES, KIDNEY: "kidney"}
    return AdaptJob((image,), (labels,), folder / "out", str(weights), steps=4, names=names)


@pytest.fixture
def a_job(tmp_path: Path, small_weights: Path) -> AdaptJob:
    return job_in(tmp_path, small_weights)


@pytest.fixture(scope="module")
def adapted_once(tmp_path_factory: pytest.TempPathFactory, small_weights: Path) -> AdaptResult:
    """What the correction rounds start from."""
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        return adapt(job_in(tmp_path_factory.mktemp("earlier"), small_weights))


@pytest.fixture
def earlier(a_job: AdaptJob, adapted_once: AdaptResult) -> AdaptResult:
    """The same, in the job's own folder."""
    shutil.copytree(adapted_once.adapter.parent, a_job.out)
    paths = [a_job.out / path.name for path in adapted_once.segmentations]
    adapter, report = (a_job.out / p.name for p in (adapted_once.adapter, adapted_once.report))
    return replace(adapted_once, adapter=adapter, report=report, segmentations=tuple(paths))


def repainted(
    job: AdaptJob, labels: np.ndarray, slices: tuple[int, ...] = (*SLICES, NEW)
) -> AdaptJob:
    """Return the correction round after the labels were painted on the slices."""
    folder = job.out.with_name("corrected")
    path = phantom.write(
        folder / "painted.nrrd", phantom.image_of(phantom.on_slices(labels, slices))
    )
    adapter = job.out / "adapter.safetensors"
    return replace(job, labels=(path,), out=folder, from_adapter=adapter, correct=True)


def segmented(result: AdaptResult, job: AdaptJob) -> np.ndarray:
    labels = read_labels(result.segmentations[0], read_image(job.images[0]))
    return labels.with_layers_merged().layers[0]


def reported(result: AdaptResult) -> dict:
    return json.loads(result.report.read_text(encoding="utf-8"))


def test_a_correction_keeps_all_paint_and_is_no_worse_elsewhere(
    a_job: AdaptJob, earlier: AdaptResult
) -> None:
    _, truth = phantom.body()
    drawn = truth.copy()
    drawn[NEW, 18:22, 12:16] = 0  # what no network would find
    before = segmented(earlier, a_job)
    events = Events()
    result = adapt(repainted(a_job, drawn), events)
    found = segmented(result, a_job)
    for index in (*SLICES, NEW):
        assert np.array_equal(found[index], drawn[index])
    for value in (LIVER, SPLEEN):
        old = phantom.dice(before[HIDDEN] == value, truth[HIDDEN] == value)
        new = phantom.dice(found[HIDDEN] == value, truth[HIDDEN] == value)
        assert new > max(0.85, old - 0.02)
    assert {entry["stage"] for entry in events.named("progress")} == {"read", "head"}
    assert not events.named("warning")


def test_a_correction_says_so_and_keeps_the_update(a_job: AdaptJob, earlier: AdaptResult) -> None:
    result = adapt(repainted(a_job, phantom.body()[1]))
    report = reported(result)
    assert report["path"] == "correction"
    assert "update is kept" in report["path_reason"]
    assert reported(earlier)["path"] == "full"
    old, new = load_adapter(earlier.adapter), load_adapter(result.adapter)
    assert old.update.keys() == new.update.keys()
    assert all(torch.equal(value, new.update[name]) for name, value in old.update.items())
    assert (new.method, new.held_out_dice) == ("arena", old.held_out_dice)
    assert not torch.equal(old.heads[0]["output.weight"], new.heads[0]["output.weight"])


def test_the_second_round_starts_from_the_first_in_the_same_folder(
    a_job: AdaptJob, earlier: AdaptResult
) -> None:
    _, truth = phantom.body()
    first = adapt(repainted(a_job, truth))
    again = repainted(a_job, truth, (*SLICES, NEW, 30))
    second = adapt(replace(again, from_adapter=first.adapter))
    assert second.adapter == first.adapter
    assert reported(second)["path"] == "correction"
    found = segmented(second, a_job)
    assert np.array_equal(found[[*SLICES, NEW, 30]], truth[[*SLICES, NEW, 30]])
    assert earlier.is_adapted


def test_a_head_alone_is_corrected_without_an_update(a_job: AdaptJob) -> None:
    head = replace(a_job, method="head")
    adapt(head)
    result = adapt(repainted(head, phantom.body()[1]))
    assert reported(result)["path"] == "correction"
    assert not result.is_adapted
    assert load_adapter(result.adapter).method == "head"


def with_a_kidney(labels: np.ndarray) -> np.ndarray:
    labels = labels.copy()
    labels[10:40, 34:38, 20:26] = KIDNEY
    return labels


def test_an_added_organ_starts_afresh_and_is_found(a_job: AdaptJob, earlier: AdaptResult) -> None:
    truth = with_a_kidney(phantom.body()[1])
    result = adapt(repainted(a_job, truth))
    assert "new: kidney" in reported(result)["path_reason"]
    found = segmented(result, a_job)
    assert phantom.dice(found[HIDDEN] == KIDNEY, truth[HIDDEN] == KIDNEY) > 0.5
    assert phantom.dice(found[HIDDEN] == LIVER, truth[HIDDEN] == LIVER) > 0.85
    names = [organ.name for organ in load_adapter(result.adapter).organs]
    assert names == ["liver", "spleen", "kidney"]
    assert earlier.is_adapted


def test_a_removed_organ_is_gone(a_job: AdaptJob, earlier: AdaptResult) -> None:
    truth = phantom.body()[1]
    result = adapt(repainted(a_job, np.where(truth == LIVER, 0, truth)))
    assert "no longer there: liver" in reported(result)["path_reason"]
    assert [organ.name for organ in result.organs] == ["spleen"]
    found = segmented(result, a_job)
    assert set(np.unique(found)) == {0, SPLEEN}
    assert phantom.dice(found[HIDDEN] == SPLEEN, truth[HIDDEN] == SPLEEN) > 0.85
    assert earlier.is_adapted


def test_heads_are_matched_by_the_organs_names(
    a_job: AdaptJob, earlier: AdaptResult, small_model: BaseModel
) -> None:
    """The same organs under other values, and a new one between them."""
    truth = with_a_kidney(phantom.body()[1])
    swapped = np.select([truth == LIVER, truth == SPLEEN, truth == KIDNEY], [3, 1, 2], 0)
    job = repainted(a_job, swapped.astype(np.uint8))
    job = replace(job, names={3: "liver", 1: "spleen", 2: "kidney"})
    task, _ = read_task(job, small_model, ignore)
    adapter = load_adapter(earlier.adapter)
    generator = torch.Generator().manual_seed(0)
    (old, *_), (new, *_) = (
        adapter.build_heads(small_model),
        warm_heads(adapter, small_model, task, generator),
    )
    features = torch.randn(7, sum(small_model.widths))
    before, after = old(features), new(features)
    assert [organ.name for organ in task.organs] == ["spleen", "kidney", "liver"]
    torch.testing.assert_close(after[:, [0, 1, 3]], before[:, [0, 2, 1]])


def test_heads_go_from_one_group_to_groups_of_their_own(
    a_job: AdaptJob, earlier: AdaptResult, small_model: BaseModel
) -> None:
    """Where organs come to overlap, each has a background, and starts with the common one."""
    task, _ = read_task(a_job, small_model, ignore)
    apart = replace(task, groups=((1,), (0,)))
    adapter = load_adapter(earlier.adapter)
    generator = torch.Generator().manual_seed(0)
    old = adapter.build_heads(small_model)[0]
    new = warm_heads(adapter, small_model, apart, generator)[0]
    features = torch.randn(7, sum(small_model.widths))
    torch.testing.assert_close(new(features), old(features)[:, [0, 2, 0, 1]])


def foreign(adapter: Adapter, path: Path) -> None:
    save_adapter(replace(adapter, base_sha256="f" * 64), path)


def without_known_organs(adapter: Adapter, path: Path) -> None:
    organs = tuple(replace(organ, name=f"other {organ.name}") for organ in adapter.organs)
    save_adapter(replace(adapter, organs=organs, known_classes={}), path)


def missing(_adapter: Adapter, path: Path) -> None:
    path.unlink()


def torn(_adapter: Adapter, path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (foreign, "was made for base network"),
        (without_known_organs, "none of its organs is painted"),
        (missing, "no such adapter file"),
        (torn, "not a complete adapter file"),
    ],
)
def test_an_adapter_that_does_not_fit_gives_a_full_adaptation_and_a_line(
    a_job: AdaptJob, earlier: AdaptResult, spoil, why: str
) -> None:
    spoil(load_adapter(earlier.adapter), earlier.adapter)
    events = Events()
    job = replace(repainted(a_job, phantom.body()[1]), method="head")
    result = adapt(job, events)
    messages = " ".join(str(entry["message"]) for entry in events.named("warning"))
    assert "no correction round but a full adaptation" in messages
    assert why in messages
    report = reported(result)
    assert report["path"] == "full"
    assert why in report["path_reason"]
    assert events.named("preview")
    anew = replace(job, correct=False, from_adapter=None, out=job.out.with_name("anew"))
    same = adapt(anew).segmentations[0].read_bytes()
    assert result.segmentations[0].read_bytes() == same


def test_an_update_that_does_not_fit_leaves_the_model_as_it_was(
    a_job: AdaptJob, earlier: AdaptResult, small_model: BaseModel
) -> None:
    task, _ = read_task(a_job, small_model, ignore)
    without_known_organs(load_adapter(earlier.adapter), earlier.adapter)
    before = dict(small_model.network.state_dict())
    with pytest.raises(AdapterError, match="none of its organs"):
        warm_start(earlier.adapter, small_model, task.organs)
    assert small_model.network.state_dict().keys() == before.keys()


def test_a_slice_painted_in_another_orientation_and_grid_counts(
    a_job: AdaptJob, earlier: AdaptResult
) -> None:
    """The corrected paint comes flipped, permuted and with finer voxels in its planes."""
    truth = phantom.body()[1]
    painted = phantom.image_of(phantom.on_slices(truth, (*SLICES, NEW)))
    finer = sitk.Resample(
        painted,
        [2 * phantom.SIZE, 2 * phantom.SIZE, phantom.SIZE],
        sitk.Transform(),
        sitk.sitkNearestNeighbor,
        [origin - 0.75 * (k < 2) for k, origin in enumerate(painted.GetOrigin())],
        [1.5, 1.5, 3.0],
        painted.GetDirection(),
    )
    turned = sitk.Flip(sitk.PermuteAxes(finer, (2, 0, 1)), (False, True, False))
    job = repainted(a_job, truth)
    phantom.write(job.labels[0], turned)
    found = segmented(adapt(job), a_job)
    assert np.array_equal(found[[*SLICES, NEW]], truth[[*SLICES, NEW]])
    assert earlier.is_adapted


def test_a_cancelled_correction_leaves_the_earlier_result(
    a_job: AdaptJob, earlier: AdaptResult
) -> None:
    def stop(event: str, /, **fields: object) -> None:
        if event == "progress" and fields.get("stage") == "head":
            raise Cancelled

    before = {path.name: path.read_bytes() for path in a_job.out.iterdir()}
    job = replace(repainted(a_job, phantom.body()[1]), out=a_job.out)
    with pytest.raises(Cancelled):
        adapt(job, stop)
    assert {path.name: path.read_bytes() for path in a_job.out.iterdir()} == before
    assert earlier.is_adapted


def test_a_correction_needs_an_adapter(tmp_path: Path, capsys) -> None:
    with pytest.raises(InputError, match="correct"):
        AdaptJob((Path("a"),), (Path("b"),), tmp_path, correct=True)
    code = main(["adapt", "--image", "a", "--labels", "b", "--out", str(tmp_path), "--correct"])
    assert code == 2
    assert "from_adapter" in capsys.readouterr().err


def test_the_command_line_corrects(a_job: AdaptJob, earlier: AdaptResult, capsys) -> None:
    job = repainted(a_job, phantom.body()[1])
    arguments = ["adapt", "--image", str(job.images[0]), "--labels", str(job.labels[0])]
    arguments += ["--names", "1=liver,2=spleen", "--model", job.model, "--events", "--correct"]
    code = main([*arguments, "--from-adapter", str(earlier.adapter), "--out", str(job.out)])
    events = [parse(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 0
    names = [event["event"] for event in events if event is not None]
    assert names[-2:] == ["next_slice", "finished"]
    report = json.loads((job.out / "report.json").read_text(encoding="utf-8"))
    assert report["path"] == "correction"


def test_a_remembering_model_computes_a_window_once(small_model: BaseModel) -> None:
    volume = torch.randn(20, 24, 28) * 100
    points = torch.rand(5, 3) * 20
    remembers = remembering(small_model)
    first = features_at(remembers, volume, points)
    assert torch.equal(first, features_at(small_model, volume, points))
    with torch.no_grad():
        for parameter in small_model.network.parameters():
            parameter.zero_()
    assert torch.equal(first, features_at(remembers, volume, points))
    assert not torch.equal(first, features_at(remembers, volume + 1, points))


def a_paint(positions: list[float], planes: int = 20) -> PaintedGrid:
    """Two organs painted on some of the planes of 3 mm."""
    drawn = torch.zeros(len(positions), 4, 4, dtype=torch.long)
    drawn[:, 0, 0], drawn[:, 3, 3] = 1, 2
    place = torch.tensor(positions)
    return PaintedGrid(0, place, drawn, (planes, 4, 4), (3.0, 3.0, 3.0), 3)


def sure_scores(planes: int = 20) -> torch.Tensor:
    """Two organs that all planes have for certain; a third label that nothing is known of."""
    scores = torch.zeros(4, planes, 4, 4)
    scores[0] = 1
    scores[:, :, 0, 0] = torch.tensor([0.0, 1, 0, 0])[:, None]
    scores[:, :, 3, 3] = torch.tensor([0.0, 0, 1, 0])[:, None]
    return scores


def test_disagreement_is_on_painted_organs_and_in_proportion_to_their_volume() -> None:
    scores = sure_scores()
    heads, propagated = scores.clone(), scores.clone()
    heads[:, 13, 1, 1] = torch.tensor([0.0, 1, 0, 0])  # one voxel more of the first organ
    propagated[:, 5, 2, 2] = torch.tensor([0.0, 0, 0, 1])  # an organ that is not painted
    found = disagreement(scores, heads, propagated, a_paint([2.5, 17.5]))
    assert sorted(found) == [1, 2]
    assert int(found[1].argmax()) == 13
    assert float(found[1][13]) == pytest.approx(1 / 20)
    assert float(found[2].abs().sum()) == 0


def test_the_chosen_plane_is_not_painted_and_between_the_ends_of_the_organs() -> None:
    scores = sure_scores()
    scores[:, :4] = torch.tensor([1.0, 0, 0, 0])[:, None, None, None]
    paint = a_paint([6.5, 10.5])
    profile = torch.arange(20.0).flip(0)  # the first planes are the most doubtful
    assert chosen_plane(profile, [scores], paint) == 4
    profile[10] = 100  # painted
    profile[12] = 50
    assert chosen_plane(profile, [scores], paint) == 12
    everything = a_paint([k + 0.5 for k in range(20)])
    assert chosen_plane(profile, [scores], everything) is None


def test_the_report_names_the_next_slice_in_the_files_terms(a_job: AdaptJob) -> None:
    """A file that is stored upside down counts its slices from the other end."""
    hounsfield, labels = phantom.body()
    upright = reported(adapt(paint_on(a_job, hounsfield, labels, SLICES, False)))["next_slice"]
    assert (upright["axis"], upright["image"]) == ("axial", 0)
    assert upright["index"] not in SLICES
    assert "disagree on" in upright["why"]
    # slices of 48 voxels of 3 mm from (-70, -60, 10)
    assert upright["mm"] == [0.5, 10.5, 10.0 + 3 * upright["index"]]
    turned = reported(adapt(paint_on(a_job, hounsfield, labels, SLICES, True)))["next_slice"]
    assert turned["mm"][2] == 10.0 + 3 * (phantom.SIZE - 1 - turned["index"])
    assert turned["index"] == phantom.SIZE - 1 - upright["index"]


def paint_on(
    job: AdaptJob,
    hounsfield: np.ndarray,
    labels: np.ndarray,
    slices: tuple[int, ...],
    is_upside_down: bool,
) -> AdaptJob:
    folder = job.out.with_name(f"upside down {is_upside_down}")
    flips = (False, False, is_upside_down)
    images = (hounsfield, phantom.on_slices(labels, slices))
    flipped = [sitk.Flip(phantom.image_of(array), flips) for array in images]
    paths = [
        phantom.write(folder / f"{name}.nrrd", image)
        for name, image in zip(("ct", "painted"), flipped, strict=True)
    ]
    return replace(job, images=(paths[0],), labels=(paths[1],), out=folder / "out", method="head")


@pytest.mark.parametrize("method", ["scratch", "linear-probe", "zero-shot"])
def test_methods_without_our_heads_are_adapted_in_full(
    a_job: AdaptJob, small_model: BaseModel, method: str
) -> None:
    told = []
    job = replace(a_job, method=method, correct=True, from_adapter=Path("earlier.safetensors"))
    route = choose_route(
        job, small_model, (), lambda event, **fields: told.append((event, fields["message"]))
    )
    assert route.path == "full"
    assert [event for event, _ in told] == ["warning"]
    assert f"{method}: a method without a correction round" in told[0][1]
