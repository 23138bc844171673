"""The user's cache of weights: taking them in, by download or from a file, and recording them.

A folder per base network holds ``weights.<suffix>`` and ``record.json``: the checksum that later
use is held against, where the file came from, and the licence it came under.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reglora_core.errors import InputError, ModelError
from reglora_core.events import Report, ignore
from reglora_core.models import registry
from reglora_core.models.checkpoints import State, checksum_of, read_weights, sha256_of
from reglora_core.models.download import Patience, download
from reglora_core.models.entry import ModelEntry
from reglora_core.models.layouts import LAYOUTS, Match
from reglora_core.models.loading import build_network
from reglora_core.output import output_folder
from reglora_core.writing import write_atomically, write_text


@dataclass(frozen=True)
class Taken:
    """Weights that are in the cache now.

    Attributes:
        path: of the file.
        match: how its tensors fit the network; None where it had been there before.
        remark: what the user should know of it, or an empty text.
    """

    path: Path
    match: Match | None = None
    remark: str = ""


@dataclass(frozen=True)
class FetchOptions:
    """How to fetch.

    Attributes:
        accept_licence: the user has read a licence that is not an open one.
        mirror: address of a folder to fetch from, instead of the publishers'.
        patience: with the server.
    """

    accept_licence: bool = False
    mirror: str = ""
    patience: Patience = field(default_factory=Patience)


def import_model(name: str, file: Path, cache: Path | None = None) -> Taken:
    """Check a file of weights against a base network and copy it into the user's cache.

    Raises:
        ModelError: unknown name, an embedded network, or weights that do not match it.
        OutputError: the cache cannot be written, or another process is writing there.
    """
    entry = registry.model_entry(name)
    if entry.weights:
        message = f"model {name!r} is embedded"
        raise ModelError(message, "there is nothing to import")
    if not file.is_file():
        message = f"{file}: no such file"
        raise ModelError(message)
    _refuse_anothers_file(entry, file)
    match = _matched(entry, file)
    with output_folder(_folder(entry, cache)) as folder:
        target = folder / f"weights{file.suffix}"
        write_atomically(target, lambda place: _copy(file, place))
        _record(entry, target, {"imported_from": file.name})
    return Taken(target, match, _difference(entry, target))


def fetch_model(
    name: str,
    cache: Path | None = None,
    options: FetchOptions | None = None,
    report: Report = ignore,
) -> Taken:
    """Download a base network's weights into the user's cache; nothing is done if they are there.

    The first download records its checksum, unless the publishers give one; a later one must
    have the same.

    Raises:
        ModelError: unknown name, not offered, refused by the server, another checksum, or weights
            that do not match the network.
        InputError: a licence that is not open, and was not accepted.
        OutputError: the cache cannot be written, or another process is writing there.
        Cancelled: the report asked to stop; the next call goes on from there.
    """
    options = options or FetchOptions()
    entry = registry.model_entry(name)
    if registry.is_here(entry, cache) and _is_unharmed(registry.weights_file(entry, cache)):
        return Taken(registry.weights_file(entry, cache))
    url = registry.download_address(entry, options.mirror)
    if entry.needs_acceptance and not options.accept_licence:
        raise _unaccepted(entry)
    with output_folder(_folder(entry, cache)) as folder:
        part = download(url, folder, report, options.patience)
        report("progress", stage="check", step=1, steps=1)
        try:
            _check_sum(entry, part)
            named = part.replace(folder / f"download{Path(entry.file_name).suffix}")
        except ModelError:
            part.unlink()
            raise
        try:
            match = _matched(entry, named)
        except ModelError:
            named.unlink()
            raise
        target = folder / f"weights{named.suffix}"
        named.replace(target)
        _record(entry, target, {"url": url})
    return Taken(target, match)


def licence_text(entry: ModelEntry) -> str:
    """Return an entry's licence in one line."""
    terms = {"open": "", "non-commercial": " (not for commercial use)", "unclear": " (unclear)"}
    where = f", see {entry.licence_url or entry.page}" if entry.licence_url or entry.page else ""
    return f"licence of {entry.name}: {entry.licence}{terms[entry.terms]}{where}"


def _unaccepted(entry: ModelEntry) -> InputError:
    hint = "read it, and if you may use the weights, say so with --accept-licence"
    return InputError(licence_text(entry), hint)


def _folder(entry: ModelEntry, cache: Path | None) -> Path:
    return (cache or registry.default_cache()) / entry.name


def _is_unharmed(file: Path) -> bool:
    expected = registry.recorded_sha256(file)
    return not expected or sha256_of(file) == expected


def _matched(entry: ModelEntry, file: Path) -> Match:
    state, metadata = read_weights(file)
    _refuse_another_size(entry, file, state)
    return build_network(entry, file.name, state, metadata)[1]


def _refuse_another_size(entry: ModelEntry, file: Path, state: State) -> None:
    size = LAYOUTS[entry.family].published(state) if entry.family in LAYOUTS else ""
    if size and not entry.name.endswith(size):
        right = [name for name in registry.model_names() if name.endswith(size)]
        message = f"{file.name}: weights of {' or '.join(right)}, not of {entry.name}"
        raise ModelError(message, f"reglora models import {right[0]} {file}")


def _refuse_anothers_file(entry: ModelEntry, file: Path) -> None:
    """Tell what a layout cannot tell: whose unchanged file it is, by the published checksums."""
    every = [registry.model_entry(name) for name in registry.model_names()]
    same = [own for own in every if own.md5 and own.family == entry.family and own != entry]
    found = checksum_of(file, "md5") if entry.url and same else ""
    for own in same:
        if own.md5 == found:
            message = f"{file.name}: the file of {own.name}, not of {entry.name}"
            raise ModelError(message, f"reglora models import {own.name} {file}")


def _check_sum(entry: ModelEntry, file: Path) -> None:
    """Compare with the publishers' checksum, or else with that of the first download.

    Raises:
        ModelError: it is another.
    """
    algorithm, expected, whose = "md5", entry.md5, "its publishers give"
    if not expected:
        record = registry.read_record(file.parent)
        algorithm, whose = "sha256", f"recorded in {file.parent / 'record.json'} was"
        expected = str(record["sha256"]) if "url" in record else ""
    found = checksum_of(file, algorithm) if expected else ""
    if found != expected:
        came = f"model {entry.name!r}: what came has checksum {found[:12]}"
        message = f"{came}, {whose} {expected[:12]}"
        hint = (
            "it was deleted; try again, and if it stays so the file has changed: get it by hand "
            "from a source you trust, then import it"
        )
        raise ModelError(message, hint)


def _difference(entry: ModelEntry, file: Path) -> str:
    if not entry.md5 or checksum_of(file, "md5") == entry.md5:
        return ""
    return "its checksum is not the one that the publishers give for their file"


def _record(entry: ModelEntry, target: Path, origin: dict[str, Any]) -> None:
    record = {"sha256": sha256_of(target), **origin, "licence": entry.licence}
    write_text(target.with_name("record.json"), json.dumps(record, indent=1))
    for old in target.parent.glob("weights.*"):
        if old != target:
            old.unlink()


def _copy(file: Path, place: Path) -> None:
    shutil.copyfile(file, place)
