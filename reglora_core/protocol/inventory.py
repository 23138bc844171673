"""What of a dataset is on the disk: every case, its organs, and every problem by rule.

| problem | rule |
|---|---|
| a file that fits a pattern, but not the names of cases | skipped |
| an image without labels, labels without an image | skipped |
| a case of the index that is not there | skipped |
| a file that is damaged, cut short or empty | skipped |
| labels on another grid than the image | skipped |
| the same image under two names, of one role | the later name is skipped |
| a label value without a name | noted: never taken for background |
| an organ that no case has | refused |
| a test patient of a fixed list that is missing or skipped | refused |
| the same case in two folders; one patient, or one image, in two roles | refused |

Refused: nothing can be done with the dataset until it is put right. Skipped: the case is left out
everywhere. Noted: it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from reglora_core.errors import InputError
from reglora_core.protocol.dataset import REST, ROLES, Dataset, Role, members, natural, refuse
from reglora_core.protocol.finding import (
    CaseFiles,
    Problem,
    Severity,
    find_cases,
    look_at,
    missing_cases,
    organ_names,
)
from reglora_core.protocol.lists import OrganLists, read_organ_lists


@dataclass(frozen=True)
class Inventory:
    """A dataset on the disk.

    Attributes:
        cases: usable ones by name, in natural order.
        roles: patients by role, in the order of their list, usable ones alone.
        names: organ by label value.
        organ_lists: shots and test patients of each organ, where the dataset has such lists.
    """

    dataset: Dataset
    data: Path
    cases: Mapping[str, CaseFiles]
    roles: Mapping[Role, tuple[str, ...]]
    names: Mapping[int, str]
    problems: tuple[Problem, ...]
    organ_lists: OrganLists = field(default_factory=dict)

    def of(self, severity: Severity) -> list[Problem]:
        """Return the problems of one kind."""
        return [problem for problem in self.problems if problem.severity == severity]

    def require_usable(self) -> None:
        """Check that nothing is refused.

        Raises:
            InputError: something is; the message names the first and counts them.
        """
        if refused := self.of("refused"):
            first = f"{refused[0].subject}: {refused[0].what}"
            raise refuse(
                self.dataset.name,
                f"{len(refused)} refused, the first {first}",
                "put it right; `reglora bench check` lists them all",
            )

    def patients(self, role: Role, organ: str | None = None) -> tuple[str, ...]:
        """Return the usable patients of a role in their fixed order; of one organ if named."""
        own = self.roles.get(role, ())
        if organ is not None and organ in self.organ_lists and role in ("shots", "test"):
            own = self.organ_lists[organ][role]
        return tuple(
            name
            for name in own
            if name in self.cases and (organ is None or self.cases[name].has(organ))
        )

    def role_of(self, case: str) -> set[Role]:
        """Return the roles in which a case is, over all organs; usable or not."""
        found: set[Role] = {role for role, own in self.roles.items() if case in own}
        for lists in self.organ_lists.values():
            found |= {role for role, own in lists.items() if case in own}
        return found


def take_inventory(
    dataset: Dataset, data: Path, at_case: Callable[[int, int], None] = lambda done, all_: None
) -> Inventory:
    """Look at every file of a dataset; every image and label map is read once.

    Args:
        dataset: its description.
        data: its folder.
        at_case: is told the cases looked at, and all; may raise to stop.

    Raises:
        InputError: the folder, its names of labels or its lists cannot be read.
    """
    if not data.is_dir():
        raise refuse(dataset.name, f"{data}: no such folder", "check --data")
    names = organ_names(dataset, data)
    found, problems = find_cases(dataset, data)
    problems += missing_cases(dataset, data, found)
    cases: dict[str, CaseFiles] = {}
    digests: dict[str, str] = {}
    for number, case in enumerate(found, start=1):
        try:
            cases[case.name], digests[case.name] = look_at(case, dataset, names, problems)
        except InputError as error:
            problems.append(Problem("skipped", case.name, error.message))
        at_case(number, len(found))
    lists = read_organ_lists(dataset, data)
    roles = _roles(dataset, cases, problems)
    draft = Inventory(dataset, data, cases, roles, names, (), lists)
    problems += _leaks(draft)
    for later in _copies(draft, digests, problems):
        del cases[later]
    problems += [*_unusable_tests(draft), *_unusable_shots(draft), *_never_drawn(draft)]
    usable: dict[Role, tuple[str, ...]] = {
        role: tuple(name for name in own if name in cases) for role, own in roles.items()
    }
    return replace(draft, roles=usable, problems=tuple(problems))


def _roles(
    dataset: Dataset, cases: Mapping[str, CaseFiles], problems: list[Problem]
) -> dict[Role, tuple[str, ...]]:
    roles: dict[Role, tuple[str, ...]] = {}
    named: set[str] = set()
    for role in ROLES:
        found, absent = members(dataset.roles.get(role, ()), cases)
        named |= {*found, *absent}
        roles[role] = (*found, *absent) if role == "test" else tuple(found)
        if role != "test":
            problems += [
                Problem("skipped", case, f"a {role} patient that is missing or was skipped")
                for case in absent
            ]
    for role, patients in dataset.roles.items():
        if REST in patients:
            rest = [case for case in sorted(cases, key=natural) if case not in named]
            roles[role] = (*roles[role], *rest)
    return {role: own for role, own in roles.items() if own}


def _leaks(inventory: Inventory) -> list[Problem]:
    """Return the patients that are in two roles.

    With lists per organ, a shot of one organ may test another: those are separate fits.
    """
    listed = {case for own in inventory.roles.values() for case in own}
    per_organ = inventory.organ_lists.values()
    listed |= {case for lists in per_organ for own in lists.values() for case in own}
    problems = []
    for case in sorted(listed, key=natural):
        roles = inventory.role_of(case)
        in_whole_role = any(case in own for own in inventory.roles.values())
        if len(roles) > 1 and in_whole_role:
            listing = " and ".join(role for role in ROLES if role in roles)
            problems.append(Problem("refused", case, f"is in the roles {listing}"))
    return problems


def _copies(inventory: Inventory, digests: Mapping[str, str], problems: list[Problem]) -> list[str]:
    """Return the later names of images that are there twice; across roles that is a leak."""
    first: dict[str, str] = {}
    later = []
    for case, digest in digests.items():
        if digest not in first:
            first[digest] = case
            continue
        earlier = first[digest]
        if inventory.role_of(case) == inventory.role_of(earlier):
            problems.append(Problem("skipped", case, f"has the same image as {earlier}"))
            later.append(case)
        else:
            what = f"has the same image as {earlier}, which is in another role"
            problems.append(Problem("refused", case, what))
    return later


def _unusable_tests(inventory: Inventory) -> list[Problem]:
    wanted = dict.fromkeys(inventory.roles.get("test", ()))
    for lists in inventory.organ_lists.values():
        wanted.update(dict.fromkeys(lists["test"]))
    return [
        Problem("refused", case, "a test patient that is missing or was skipped")
        for case in wanted
        if case not in inventory.cases
    ]


def _unusable_shots(inventory: Inventory) -> list[Problem]:
    """Return shots of published lists that are not there: without them the draw is another."""
    wanted: dict[str, list[str]] = {}
    for organ, lists in inventory.organ_lists.items():
        for case in lists["shots"]:
            if case not in inventory.cases:
                wanted.setdefault(case, []).append(organ)
    what = "missing or skipped, so draws differ from the published ones of"
    return [Problem("skipped", case, f"{what} {', '.join(own)}") for case, own in wanted.items()]


def _never_drawn(inventory: Inventory) -> list[Problem]:
    return [
        Problem("refused", organ, "no case has this organ")
        for organ in inventory.dataset.organs
        if not any(case.has(organ) for case in inventory.cases.values())
    ]
