"""FSEFT's published lists of shots and test patients, one pair of text files per organ.

ORGAN_train.txt and ORGAN_test.txt have one case a line: the path of its image and of its labels.
github.com/jusiro/fewshot-finetuning has them in local_data/partitions/transferability.
Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reglora_core.protocol.dataset import Dataset, Role, refuse

OrganLists = Mapping[str, Mapping[Role, tuple[str, ...]]]


def read_organ_lists(dataset: Dataset, data: Path) -> OrganLists:
    """Return shots and test patients by organ; none where the dataset has no such lists.

    Raises:
        InputError: a list is missing, empty or not such a list, or a patient is in both.
    """
    if not dataset.organ_lists:
        return {}
    folder = data / dataset.organ_lists
    lists = {}
    for organ in dataset.organs:
        own: dict[Role, tuple[str, ...]] = {
            "shots": _cases(dataset, folder / f"{organ}_train.txt"),
            "test": _cases(dataset, folder / f"{organ}_test.txt"),
        }
        if both := sorted(set(own["shots"]) & set(own["test"])):
            message = f"{organ}: {both[0]} is a shot and a test patient"
            raise refuse(dataset.name, message, "get the lists again")
        lists[organ] = own
    return lists


def _cases(dataset: Dataset, path: Path) -> tuple[str, ...]:
    hint = (
        "put FSEFT's lists there: local_data/partitions/transferability/totalseg_selected of "
        "github.com/jusiro/fewshot-finetuning"
    )
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        message = f"{path}: the list cannot be read ({error.strerror})"
        raise refuse(dataset.name, message, hint) from error
    names = [_case_of(line[0]) for line in lines if line]
    if not names or "" in names:
        raise refuse(dataset.name, f"{path.name}: no list of cases", hint)
    return tuple(dict.fromkeys(names))


def _case_of(image: str) -> str:
    """Return the case of a path such as set/data/s0004/ct.nii.gz: its folder."""
    parts = Path(image).parts
    return parts[-2] if len(parts) > 1 else ""
