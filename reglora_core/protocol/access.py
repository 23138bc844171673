"""Who may be seen for what: test patients are scored, and nothing else.

| role | may be used to |
|---|---|
| pretraining | pretrain |
| shots | fit, choose (the case that a draw leaves out) |
| validation | choose |
| test | score |

A patient without a role may be used for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from reglora_core.errors import InputError
from reglora_core.protocol.dataset import Role
from reglora_core.protocol.inventory import Inventory

Purpose = Literal["pretrain", "fit", "choose", "score"]
_ALLOWED: dict[Role, tuple[Purpose, ...]] = {
    "pretraining": ("pretrain",),
    "shots": ("fit", "choose"),
    "validation": ("choose",),
    "test": ("score",),
}


def check_purpose(
    inventory: Inventory, case: str, purpose: Purpose, organ: str | None = None
) -> None:
    """Check that a patient may be used for a purpose; of one organ where lists are per organ.

    Raises:
        InputError: its role forbids it, or it is in none.
    """
    if purpose not in get_args(Purpose):
        message = f"purpose is {purpose!r}"
        raise InputError(message, f"choose one of {', '.join(get_args(Purpose))}")
    roles = _roles_for(inventory, case, organ)
    if roles and all(purpose in _ALLOWED[role] for role in roles):
        return
    own = " and ".join(sorted(roles)) or "no"
    message = (
        f"patient {case} of {inventory.dataset.name} is in {own} role, not to be used to {purpose}"
    )
    raise InputError(message, "use a patient whose role allows it (docs/protocol.md)")


def check_unseen(inventory: Inventory, seen: Iterable[str], by: str) -> None:
    """Check that a base network or a choice of settings has seen no test patient and no shot.

    Args:
        inventory: of the dataset.
        seen: patients that it has seen.
        by: what has seen them, for the message.

    Raises:
        InputError: it has; all of them are named.
    """
    looked_at = set(seen)
    for role in ("test", "shots"):
        listed = set(inventory.roles.get(role, ()))
        for lists in inventory.organ_lists.values():
            listed |= set(lists[role])
        if leaked := sorted(looked_at & listed):
            message = f"{by} has seen {len(leaked)} patients of role {role}: {', '.join(leaked)}"
            raise InputError(message, "use one that has not: its scores would mean nothing")


def _roles_for(inventory: Inventory, case: str, organ: str | None) -> set[Role]:
    if organ is None or organ not in inventory.organ_lists:
        return inventory.role_of(case)
    found: set[Role] = {role for role, own in inventory.roles.items() if case in own}
    return found | {role for role, own in inventory.organ_lists[organ].items() if case in own}
