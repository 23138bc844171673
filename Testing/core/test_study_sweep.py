"""A whole study by the command line: its rules for bad input, and going on after it was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253
import phantom
import pytest
import study_data

from reglora_core.cli import main
from reglora_core.pool import has_ray
from reglora_core.report.folder import read_study_folder


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study_data.write_bodies(tmp_path_factory.mktemp("bodies"))


def write_study(folder: Path, **changes: Any) -> Path:
    (folder / "bodies.json").write_text(json.dumps({"format": 1, **study_data.DATASET}))
    path = folder / "study.json"
    path.write_text(json.dumps({"format": 1, **study_data.STUDY, **changes}))
    return path


def arguments(study: Path, data: Path, out: Path, base: Path, *more: str) -> list[str]:
    paths = ["--data", str(data), "--out", str(out), "--base", str(base), "--device", "cpu"]
    return ["bench", "run", str(study), *paths, *more]


def records(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "fits").glob("[!.]*.json"))}


def test_a_study_writes_a_record_per_fit_and_makes_none_twice(
    tmp_path: Path, bodies: Path, small_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(tmp_path)
    call = arguments(study, bodies, tmp_path / "out", small_weights, "--plain")
    assert main(call) == 0
    made = records(tmp_path / "out")
    assert len(made) == 2 * 2 * 2  # methods, organs, draws
    out = capsys.readouterr().out
    assert "8 fits: 0 were finished before, 8 made now, 0 failed" in out
    assert main(call) == 0
    assert "8 fits: 8 were finished before, 0 made now, 0 failed" in capsys.readouterr().out
    assert records(tmp_path / "out") == made
    first = json.loads(next(iter(made.values())))
    assert first["dataset"] == "bodies"
    assert list(first["case_dice"]) == ["pt_6"]
    plan = json.loads((tmp_path / "out" / "plans" / "small.json").read_text())
    assert (plan["name"], plan["dataset"], plan["skipped"]) == ("small", "bodies", [])
    assert {f"{name}.json" for name in plan["fits"]} == made.keys()
    for name, identity in plan["fits"].items():
        assert identity.items() <= json.loads(made[f"{name}.json"]).items()
    study = read_study_folder(tmp_path / "out")
    assert {f"{fit.name}.json" for fit in study.fits} == made.keys()
    assert study.missing == []


def test_a_method_that_the_network_has_no_place_for_fails_by_name_and_alone(
    tmp_path: Path, bodies: Path, small_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(tmp_path, methods=["affine-ln", "linear-probe"], organs=["liver"])
    assert main(arguments(study, bodies, tmp_path / "out", small_weights, "--plain")) == 2
    captured = capsys.readouterr()
    assert "4 fits: 0 were finished before, 2 made now, 2 failed" in captured.out
    assert captured.out.count("failed: affine-ln-liver-k1-") == 2
    assert "has no layer norms to train" in captured.err
    assert len(records(tmp_path / "out")) == 2


def test_cases_that_cannot_be_used_are_named_and_left_out(
    tmp_path: Path, small_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = study_data.write_bodies(tmp_path / "data")
    scan = data / "pt_5_ct.nii.gz"
    scan.write_bytes(scan.read_bytes()[:2000])  # truncated
    (data / "pt_4_labels.nii.gz").unlink()  # missing
    phantom.write(data / "patient9_ct.nii.gz", phantom.image_of(phantom.body(9)[0]))  # misnamed
    (data / "pt_8_ct.nii.gz").write_bytes((data / "pt_6_ct.nii.gz").read_bytes())  # a copy
    (data / "pt_8_labels.nii.gz").write_bytes((data / "pt_6_labels.nii.gz").read_bytes())
    roles = {**study_data.DATASET["roles"], "validation": ["pt_6", "pt_8"]}
    study = write_study(tmp_path, methods=["linear-probe"])
    described = {"format": 1, **study_data.DATASET, "roles": roles}
    (tmp_path / "bodies.json").write_text(json.dumps(described))
    # one shot is left of three, and k = 1 takes two
    assert main(arguments(study, data, tmp_path / "out", small_weights, "--plain")) == 2
    err = capsys.readouterr().err
    assert "too few patients with role shots: liver k = 1: 1, spleen k = 1: 1" in err
    for case in ("patient9_ct.nii.gz", "pt_4", "pt_5", "pt_8"):
        assert f"note: skipped: {case}" in err
    assert not (tmp_path / "out").exists()


def test_an_organ_that_nobody_has_drawn_is_refused(
    tmp_path: Path, small_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = study_data.write_bodies(tmp_path / "data")
    for path in data.glob("*_labels.nii.gz"):
        hounsfield, labels = phantom.body()
        del hounsfield
        only_liver = np.where(labels == phantom.LIVER, labels, 0).astype(np.uint8)
        phantom.write(path, phantom.image_of(only_liver))
    study = write_study(tmp_path)
    assert main(arguments(study, data, tmp_path / "out", small_weights, "--plain")) == 2
    assert "spleen: no case has this organ" in capsys.readouterr().err


@pytest.mark.skipif(not has_ray(), reason="Ray is not installed")
def test_a_study_that_is_killed_goes_on_where_it_was(
    tmp_path: Path, bodies: Path, small_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(tmp_path, fit={**study_data.STUDY["fit"], "steps": 10})
    out = tmp_path / "out"
    call = arguments(study, bodies, out, small_weights, "--workers", "2")
    command = [sys.executable, "-m", "reglora_core", *call]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 150
        while len(records(out)) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    before = records(out)
    assert 2 <= len(before) < 8
    assert all(json.loads(content)["format"] == 1 for content in before.values())
    assert main(arguments(study, bodies, out, small_weights, "--plain")) == 0
    after = records(out)
    assert len(after) == 8
    assert {name: after[name] for name in before} == before
    made = f"{len(before)} were finished before, {8 - len(before)} made now, 0 failed"
    assert made in capsys.readouterr().out
