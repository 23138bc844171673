"""Job files: what they accept, what they refuse, and how they are written back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reglora_core.errors import InputError
from reglora_core.job import (
    AdaptJob,
    Annotated,
    EvaluateJob,
    PredictJob,
    job_from_dict,
    job_to_dict,
    read_job,
)

ADAPT = {"format": 1, "command": "adapt", "images": ["ct.nrrd"], "labels": ["l.nrrd"], "out": "o"}
TWO = {"images": ["a", "b"], "labels": ["c", "d"]}


def adapt_job(**entries: Any) -> AdaptJob:
    job = job_from_dict({**ADAPT, **entries}, Path("/case"))
    assert isinstance(job, AdaptJob)
    return job


def refusal(entries: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        job_from_dict(entries, Path("/case"))
    return str(caught.value)


def test_relative_paths_start_from_the_jobs_folder() -> None:
    job = adapt_job(images=["ct.nrrd"], labels=["/labels/l.nrrd"], experts=[None])
    assert job.images == (Path("/case/ct.nrrd"),)
    assert job.labels == (Path("/labels/l.nrrd"),)
    assert job.out == Path("/case/o")
    assert job.experts == (None,)


def test_what_is_left_out_has_its_default() -> None:
    job = adapt_job()
    assert (job.model, job.method, job.rank, job.annotated) == (
        "reglora-tiny",
        "arena",
        8,
        ("auto",),
    )
    assert (job.budget, job.steps, job.seed, job.from_adapter) == (55.0, None, 0, None)


def test_entries_become_the_types_of_their_fields() -> None:
    job = adapt_job(
        names={"1": "liver", "7": "spleen"},
        budget=5,
        steps=3,
        from_adapter="a.safetensors",
        not_painted=[{"liver": [3, 4]}],
    )
    assert job.names == {1: "liver", 7: "spleen"}
    assert job.budget == 5.0
    assert isinstance(job.budget, float)
    assert job.from_adapter == Path("/case/a.safetensors")
    assert job.not_painted_for(0) == {"liver": [3, 4]}


def test_the_other_commands_are_read_as_well() -> None:
    predict = {"command": "predict", "adapter": "a", "image": "i", "out": "o.nii.gz"}
    evaluate = {"command": "evaluate", "prediction": "p", "reference": "r"}
    assert isinstance(job_from_dict({"format": 1, **predict}, Path()), PredictJob)
    assert isinstance(job_from_dict({"format": 1, **evaluate}, Path()), EvaluateJob)


def test_a_job_is_the_same_after_writing_and_reading() -> None:
    job = adapt_job(
        **TWO, names={"1": "liver"}, annotated=["auto", "axial:3,5"], experts=["e.nrrd", None]
    )
    assert job_from_dict(json.loads(json.dumps(job_to_dict(job))), Path("/elsewhere")) == job


def test_one_entry_counts_for_every_image_and_several_for_their_own() -> None:
    one = adapt_job(**TWO, annotated=["all"])
    each = adapt_job(**TWO, annotated=["all", "coronal:4"], not_painted=[{}, {"liver": [1]}])
    assert one.annotated_for(0) == one.annotated_for(1) == Annotated("all")
    assert each.annotated_for(1) == Annotated("slices", "coronal", (4,))
    assert each.not_painted_for(1) == {"liver": [1]}
    assert each.expert_for(1) is None


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({**ADAPT, "format": 2}, "format: 2"),
        ({k: v for k, v in ADAPT.items() if k != "format"}, "format: None"),
        ({**ADAPT, "command": "train"}, "'train'"),
        ({**ADAPT, "rnak": 4}, "'rnak'"),
        ({k: v for k, v in ADAPT.items() if k != "labels"}, "'labels'"),
        ({**ADAPT, "images": "ct.nrrd"}, "must be a list"),
        ({**ADAPT, "images": []}, "images"),
        ({**ADAPT, "images": [3]}, "3"),
        ({**ADAPT, "labels": ["a", "b"]}, "1 images, 2 label files"),
        ({**ADAPT, "rank": 0}, "rank: 0"),
        ({**ADAPT, "rank": -3}, "rank: -3"),
        ({**ADAPT, "rank": 2.5}, "rank: 2.5"),
        ({**ADAPT, "rank": True}, "rank: True"),
        ({**ADAPT, "rank": "8"}, "rank: '8'"),
        ({**ADAPT, "budget": 0}, "budget: 0"),
        ({**ADAPT, "budget": float("nan")}, "budget: nan"),
        ({**ADAPT, "steps": -1}, "steps: -1"),
        ({**ADAPT, "seed": -1}, "seed: -1"),
        ({**ADAPT, "seed": 2**63}, "seed"),
        ({**ADAPT, "method": "dora"}, "'dora'"),
        ({**ADAPT, "device": "tpu"}, "'tpu'"),
        ({**ADAPT, "threads": 0}, "threads: 0"),
        ({**ADAPT, "annotated": []}, "annotated"),
        ({**ADAPT, "annotated": ["axial"]}, "'axial'"),
        ({**ADAPT, "annotated": ["auto", "all"]}, "annotated"),
        ({**ADAPT, "names": {"one": "liver"}}, "'one'"),
        ({**ADAPT, "names": ["liver"]}, "must be an object"),
        ({**ADAPT, "not_painted": [{"liver": 3}]}, "must be a list"),
        (
            {"format": 1, "command": "predict", "adapter": "a", "image": "i", "out": "o.png"},
            "o.png",
        ),
    ],
)
def test_an_entry_that_cannot_be_used_is_named(entries: dict[str, Any], expected: str) -> None:
    message = refusal(entries)
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "3", '{"format": 1'])
def test_a_file_that_is_no_job_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "job.json"
    path.write_text(text)
    with pytest.raises(InputError):
        read_job(path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(InputError, match=r"job\.json"):
        read_job(path)


def test_a_missing_job_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no-job\.json.*No such file"):
        read_job(tmp_path / "no-job.json")


def test_slices_are_sorted_and_unique() -> None:
    assert Annotated.parse("axial:40,12,40") == Annotated("slices", "axial", (12, 40))
    assert str(Annotated.parse("sagittal:40,12")) == "sagittal:12,40"
    assert str(Annotated.parse("auto")) == "auto"


@pytest.mark.parametrize(
    "text", ["", "Auto", "axial:", "axial:a", "axial:-1", "oblique:3", "axial:1,"]
)
def test_slices_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="annotated"):
        Annotated.parse(text)
