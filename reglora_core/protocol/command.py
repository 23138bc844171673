"""`reglora bench check`: the inventory of a dataset, printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reglora_core.events import Report, ignore
from reglora_core.protocol.dataset import ROLES, read_dataset
from reglora_core.protocol.finding import Severity
from reglora_core.protocol.inventory import Inventory, take_inventory
from reglora_core.protocol.sampling import too_few

SHOTS = (1, 5, 10)
SEVERITIES: tuple[Severity, ...] = ("refused", "skipped", "noted")


def check_dataset(
    dataset: str, data: Path, report: Report = ignore, shots: Sequence[int] = SHOTS
) -> tuple[str, Inventory]:
    """Return the text of a dataset's inventory, and the inventory.

    Raises:
        InputError: the description or the folder cannot be read.
    """

    def at_case(done: int, every: int) -> None:
        report("progress", stage="check", step=done, steps=every)

    inventory = take_inventory(read_dataset(dataset), data, at_case)
    return inventory_table(inventory, shots), inventory


def inventory_table(inventory: Inventory, shots: Sequence[int] = SHOTS) -> str:
    """Return roles, organs, what is too little for k shots, and every problem, as text."""
    dataset = inventory.dataset
    lines = [f"dataset {dataset.name}: {len(inventory.cases)} usable cases", ""]
    lines += [f"{'role':12} {'cases':>5}"]
    lines += [f"{role:12} {_count(inventory, role):5}" for role in ROLES]
    width = max(len(organ) for organ in dataset.organs)
    lines += ["", f"{'organ':{width}}  kind   {'drawn':>5} {' '.join(f'{r:>11}' for r in ROLES)}"]
    for organ in dataset.organs:
        kind = "novel" if organ in dataset.novel else "base"
        drawn = sum(case.has(organ) for case in inventory.cases.values())
        counts = " ".join(f"{len(inventory.patients(role, organ)):11}" for role in ROLES)
        lines.append(f"{organ:{width}}  {kind:5}  {drawn:5} {counts}")
    lacking = too_few(inventory, shots)
    if lacking:
        lines.append("")
    for (organ, k), count in lacking.items():
        lines.append(f"too few for k = {k}: {organ} has {count} patients with role shots")
    lines.append("")
    for severity in SEVERITIES:
        found = inventory.of(severity)
        lines.append(f"{severity}: {len(found)}")
        lines += [f"  {problem.subject}: {problem.what}" for problem in found]
    return "\n".join(lines) + "\n"


def _count(inventory: Inventory, role: str) -> int:
    listed = set(inventory.roles.get(role, ()))  # type: ignore[call-overload]
    for lists in inventory.organ_lists.values():
        listed |= set(lists.get(role, ()))  # type: ignore[call-overload]
    return len(listed & set(inventory.cases))
