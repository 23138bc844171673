"""The command line: exit codes, and one clear line for everything that cannot work."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np  # noqa: TID253
import phantom
import pytest
import SimpleITK as sitk  # noqa: TID253

from reglora_core import cli, run
from reglora_core.cli import main
from reglora_core.errors import OutputError
from reglora_core.job import AdaptJob
from reglora_core.models import registry
from reglora_core.models.registry import model_names


@pytest.fixture(scope="module")
def a_case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return phantom.write_case(tmp_path_factory.mktemp("a case with spaces ä"))


@pytest.fixture
def refused(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, small_weights: Path
) -> Callable[..., str]:
    """Run `reglora adapt` on something bad; return its one line."""
    out = tmp_path / "results of before"
    out.mkdir()
    for name in ("adapter.safetensors", "segmentation_1.seg.nrrd", "events.jsonl"):
        (out / name).write_text("precious")

    def adapt(image: Path, labels: Path, *more: str, code: int = 2) -> str:
        options = ["--image", str(image), "--labels", str(labels), "--out", str(out)]
        found = main(["adapt", *options, "--model", str(small_weights), "--steps", "1", *more])
        output = capfd.readouterr()
        assert found == code
        assert output.out == ""
        assert output.err.count("\n") == 1, output.err
        assert output.err.startswith("reglora: ")
        assert "Traceback" not in output.err
        kept = {path.name: path.read_text() for path in out.iterdir()}
        assert kept == dict.fromkeys(
            ("adapter.safetensors", "segmentation_1.seg.nrrd", "events.jsonl"), "precious"
        )
        return output.err

    return adapt


def labels_of(folder: Path, array: np.ndarray, **geometry: object) -> Path:
    image = phantom.image_of(array.astype(np.uint16), **geometry)  # type: ignore[arg-type]
    return phantom.write(folder / "labels.nrrd", image)


def image_with(folder: Path, array: np.ndarray) -> Path:
    return phantom.write(folder / "image.nrrd", phantom.image_of(array))


def test_a_missing_image(refused: Callable[..., str], a_case: tuple[Path, Path]) -> None:
    assert "gone.nrrd" in refused(Path("gone.nrrd"), a_case[1])


def test_missing_labels(refused: Callable[..., str], a_case: tuple[Path, Path]) -> None:
    assert "gone.nrrd" in refused(a_case[0], Path("gone.nrrd"))


def test_an_image_that_cannot_be_read(
    refused: Callable[..., str], a_case: tuple[Path, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "bröken file.nrrd"
    broken.write_bytes(a_case[0].read_bytes()[:900])
    assert "bröken file.nrrd" in refused(broken, a_case[1])


def test_labels_beside_the_image(
    refused: Callable[..., str], a_case: tuple[Path, Path], tmp_path: Path
) -> None:
    painted = phantom.on_slices(phantom.body()[1], (20, 30))
    far = labels_of(tmp_path, painted, origin=(5000.0, 0.0, 0.0))
    assert "does not lie on the image" in refused(a_case[0], far)


@pytest.mark.parametrize(("count", "said"), [(0, "0 labelled voxels"), (1, "1 labelled voxel")])
def test_labels_without_paint(
    refused: Callable[..., str], a_case: tuple[Path, Path], tmp_path: Path, count: int, said: str
) -> None:
    painted = np.zeros((48, 48, 48))
    painted[20, 20, 20 : 20 + count] = 1
    assert said in refused(a_case[0], labels_of(tmp_path, painted))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_no_numbers(
    refused: Callable[..., str], a_case: tuple[Path, Path], tmp_path: Path, value: float
) -> None:
    array = phantom.body()[0].astype(np.float32)
    array[3, 4, 5:8] = value
    assert "3 voxels are NaN or infinite" in refused(image_with(tmp_path, array), a_case[1])


def test_a_2d_image(refused: Callable[..., str], a_case: tuple[Path, Path], tmp_path: Path) -> None:
    flat = tmp_path / "flat.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(phantom.body()[0][20]), str(flat))
    assert "2D" in refused(flat, a_case[1])


def test_a_4d_image(refused: Callable[..., str], a_case: tuple[Path, Path], tmp_path: Path) -> None:
    several = tmp_path / "several.nii.gz"
    array = np.stack([phantom.body()[0][:4]] * 2)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=False), str(several))
    assert "4D" in refused(several, a_case[1])


def test_a_colour_image(
    refused: Callable[..., str], a_case: tuple[Path, Path], tmp_path: Path
) -> None:
    colour = tmp_path / "colour.nrrd"
    array = np.zeros((4, 5, 6, 3), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(colour))
    assert "3 values per voxel" in refused(colour, a_case[1])


@pytest.mark.parametrize("spacing", ["0", "1e9"])
def test_an_absurd_spacing(
    refused: Callable[..., str], a_case: tuple[Path, Path], tmp_path: Path, spacing: str
) -> None:
    path = tmp_path / "spacing.mha"
    phantom.write(path, phantom.image_of(phantom.body()[0]))
    text = path.read_bytes().replace(
        b"ElementSpacing = 3 3 3", f"ElementSpacing = 3 3 {spacing}".encode(), 1
    )
    path.write_bytes(text)
    assert "spacing.mha" in refused(path, a_case[1])


def test_axes_that_are_not_at_right_angles(
    refused: Callable[..., str], a_case: tuple[Path, Path], tmp_path: Path
) -> None:
    path = tmp_path / "sheared.nrrd"
    raw = phantom.body()[0].tobytes()
    header = (
        "NRRD0004\ntype: short\ndimension: 3\nsizes: 48 48 48\nspace: left-posterior-superior\n"
        "space directions: (3,0,0) (1,3,0) (0,0,3)\nspace origin: (0,0,0)\nendian: little\n"
        "kinds: domain domain domain\nencoding: raw\n\n"
    )
    path.write_bytes(header.encode() + raw)
    assert "not at right angles" in refused(path, a_case[1])


def test_a_label_value_without_a_name(
    refused: Callable[..., str], a_case: tuple[Path, Path]
) -> None:
    assert "label value 2 has no name" in refused(*a_case, "--names", "1=liver")


@pytest.mark.parametrize("names", ["liver", "1=", "0=liver", "1=liver,1=spleen", "gone.json"])
def test_names_that_make_no_sense(
    refused: Callable[..., str], a_case: tuple[Path, Path], names: str
) -> None:
    refused(*a_case, "--names", names)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--rank", "0"), "rank: 0"),
        (("--rank", "-2"), "rank: -2"),
        (("--rank", "two"), "two"),
        (("--method", "dora"), "dora"),
        (("--annotated", "axial:99"), "99"),
        (("--annotated", "diagonal:3"), "diagonal:3"),
        (("--annotated", "axial:0"), "axial:0"),
        (("--device", "abacus"), "abacus"),
        (("--device", "cuda:99"), "cuda:99"),
        (("--seed", "-1"), "seed: -1"),
        (("--threads", "0"), "threads: 0"),
        (("--budget", "0"), "budget"),
        (("--from-adapter", "gone.safetensors"), "gone.safetensors"),
        (("--model", "gone"), "'gone'"),
        (("--ignore-label", "x"), "x"),
        (("--surprise",), "--surprise"),
        (("--image", "two.nrrd"), "2 images, 1 label files"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(
    refused: Callable[..., str], a_case: tuple[Path, Path], options: tuple[str, ...], said: str
) -> None:
    assert said in refused(*a_case, *options)


@pytest.mark.parametrize("kind", ["pickle", "truncated", "text"])
def test_an_adapter_that_is_none(
    refused: Callable[..., str], a_case: tuple[Path, Path], tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "an adapter.safetensors"
    path.write_bytes(
        {"pickle": pickle.dumps({"a": 1}), "truncated": b"\x00\x10", "text": b"hello, world"}[kind]
    )
    line = refused(*a_case, "--from-adapter", str(path))
    assert "an adapter.safetensors: not a complete adapter file" in line


def test_weights_that_are_none(
    refused: Callable[..., str], a_case: tuple[Path, Path], tmp_path: Path
) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps(Path))
    assert "weights.pt" in refused(*a_case, "--model", str(path))


def test_a_full_disk(
    a_case: tuple[Path, Path],
    small_weights: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    quick_fits: None,
) -> None:
    from reglora_core import adaptation

    def full(path: Path, *_: object) -> None:
        message = f"{path}: cannot be written (No space left on device)"
        raise OutputError(message, "the disk is full")

    monkeypatch.setattr(adaptation, "write_segmentation", full)
    options = ["--image", str(a_case[0]), "--labels", str(a_case[1]), "--out", str(tmp_path / "o")]
    assert main(["adapt", *options, "--model", str(small_weights), "--steps", "1"]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert "No space left on device" in lines[-1]
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["events.jsonl"]


def test_an_output_folder_that_is_a_file(
    a_case: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    options = ["--image", str(a_case[0]), "--labels", str(a_case[1]), "--out", str(taken)]
    assert main(["adapt", *options]) == 2
    assert capfd.readouterr().err.count("\n") == 1
    assert taken.read_text() == "mine"


@pytest.mark.parametrize("arguments", [[], ["adapt"], ["fly"], ["predict", "--image", "x"]])
def test_a_command_that_is_none_is_one_line(
    arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    line = capfd.readouterr().err
    assert line.count("\n") == 1
    assert "--help" in line


def test_adapt_predict_and_evaluate_in_turn(
    a_case: tuple[Path, Path],
    small_weights: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    quick_fits: None,
) -> None:
    image, labels = a_case
    out = tmp_path / "Ergebnis für Müller"
    common = ["--image", str(image), "--model", str(small_weights)]
    adapted = main(
        ["adapt", *common, "--labels", str(labels), "--out", str(out), "--method", "head",
         "--names", "1=liver,2=spleen"]
    )  # fmt: skip
    table = capfd.readouterr().out
    assert adapted == 0
    assert "liver" in table
    assert str(out / "adapter.safetensors") in table
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert (events[0]["event"], events[-1]["event"]) == ("started", "finished")

    found = tmp_path / "gefunden.nii.gz"
    adapter = str(out / "adapter.safetensors")
    assert main(["predict", *common, "--adapter", adapter, "--out", str(found), "--events"]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["event"] for line in lines][-1] == "finished"
    assert [line["name"] for line in lines if line["event"] == "organ"] == ["liver", "spleen"]

    reference = phantom.write(tmp_path / "ref.nrrd", phantom.image_of(phantom.body()[1]))
    compare = ["evaluate", "--prediction", str(out / "segmentation_1.seg.nrrd")]
    assert main([*compare, "--reference", str(reference), "--json"]) == 0
    scores = json.loads(capfd.readouterr().out)
    assert scores["mean"]["dice"] > 0.8
    left_out = ["--slices-not-in", str(labels)]
    assert main([*compare, "--reference", str(reference), *left_out]) == 0
    assert "4 annotated slices (axis z) are left out" in capfd.readouterr().out


def test_models_are_listed_and_shown(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list"]) == 0
    listed = capfd.readouterr().out
    assert all(name in listed for name in model_names())
    assert main(["models", "show", "fseft-swinunetr"]) == 0
    shown = capfd.readouterr().out
    assert "fewshot-finetuning" in shown
    assert "licence          none stated" in shown
    assert main(["models", "list", "--json"]) == 0
    entries = json.loads(capfd.readouterr().out)
    assert [entry["name"] for entry in entries] == model_names()
    assert main(["models", "show", "monai-wholebody", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["patch_size"] == [96, 96, 96]
    assert main(["models", "fetch", "reglora-tiny"]) == 0
    assert capfd.readouterr().out.endswith("reglora-tiny.safetensors\n")
    assert main(["models", "fetch", "gone"]) == 2
    assert main(["models", "show", "gone"]) == 2
    assert main(["models", "import", "swinunetr", "gone.pt"]) == 2


def test_a_defect_outside_a_job_is_one_line_too(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(name: str) -> None:
        message = "oh\nno"
        raise ZeroDivisionError(message)

    monkeypatch.setattr(registry, "model_entry", fail)
    monkeypatch.setattr(run.tempfile, "gettempdir", lambda: str(tmp_path))
    assert main(["models", "show", "swinunetr"]) == 1
    line = capfd.readouterr().err
    assert line.count("\n") == 1
    assert "defect: ZeroDivisionError: oh no; details are in" in line
    assert "ZeroDivisionError" in (tmp_path / run.LOG).read_text()


def test_an_interrupt_is_a_cancel(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "model_entry", interrupt)
    assert main(["models", "show", "swinunetr"]) == 3
    assert capfd.readouterr().err == "reglora: cancelled\n"


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from reglora_core.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'numpy', 'monai', 'SimpleITK', 'scipy', 'matplotlib', 'safetensors'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    for arguments in (["--help"], ["adapt", "--help"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "reglora" in done.stdout


def test_the_module_and_its_exit_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "reglora_core", "run", str(tmp_path / "gone.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "gone.json" in done.stderr


def test_every_option_reaches_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[AdaptJob] = []
    monkeypatch.setattr(cli, "_with_progress", lambda job, events: jobs.append(job) or 0)
    main(
        [
            "adapt",
            "--image",
            "a",
            "--image",
            "b",
            "--labels",
            "c",
            "--labels",
            "d",
            "--out",
            "o",
            "--model",
            "m",
            "--method",
            "lora",
            "--rank",
            "3",
            "--annotated",
            "all",
            "--annotated",
            "axial:1",
            "--ignore-label",
            "9",
            "--names",
            "1=liver",
            "--from-adapter",
            "f",
            "--steps",
            "7",
            "--device",
            "cpu",
            "--threads",
            "2",
            "--seed",
            "4",
        ]
    )
    (job,) = jobs
    expected = AdaptJob(
        images=(Path("a"), Path("b")),
        labels=(Path("c"), Path("d")),
        out=Path("o"),
        model="m",
        method="lora",
        rank=3,
        annotated=("all", "axial:1"),
        ignore_label=9,
        names={1: "liver"},
        from_adapter=Path("f"),
        budget=AdaptJob(images=(Path(),), labels=(Path(),), out=Path()).budget,
        steps=7,
        device="cpu",
        threads=2,
        seed=4,
    )
    assert job == expected
