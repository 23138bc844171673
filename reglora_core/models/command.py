"""``reglora models``: list, show, fetch and import base networks."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reglora_core import __version__
from reglora_core.errors import Cancelled, RegLoRAError
from reglora_core.events import JsonLines, Reporter
from reglora_core.forecast import EXAMPLE
from reglora_core.models import registry
from reglora_core.progress import ProgressBar, cancel_on_interrupt

if TYPE_CHECKING:
    from reglora_core.models.cache import Taken

MIRROR = "REGLORA_MIRROR"  # environment variable: the default of --mirror


def add_models(commands: Any) -> None:
    """Add the command's options to the command line."""
    parser = commands.add_parser("models", help="list, show, fetch or import base networks")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    every = actions.add_parser("list", help="all base networks")
    every.set_defaults(work=_list)
    show = actions.add_parser("show", help="what is known of one")
    show.set_defaults(work=_show)
    show.add_argument("name")
    for action in (every, show):
        action.add_argument("--json", action="store_true", help="print JSON")
    fetch = actions.add_parser("fetch", help="download one's weights")
    fetch.set_defaults(work=_fetch)
    fetch.add_argument("name")
    fetch.add_argument(
        "--accept-licence",
        action="store_true",
        help="you have read the licence, and may use the weights under it",
    )
    fetch.add_argument(
        "--mirror",
        default=os.environ.get(MIRROR, ""),
        metavar="URL",
        help=f"download from there instead, from URL/NAME/FILE (default: {MIRROR}, if set)",
    )
    fetch.add_argument("--events", action="store_true", help="print JSON events on stdout")
    take = actions.add_parser("import", help="take one's weights from a file")
    take.set_defaults(work=_import)
    take.add_argument("name")
    take.add_argument("file", type=Path)


def _list(options: argparse.Namespace) -> int:
    entries = [registry.model_entry(name) for name in registry.model_names()]
    if options.json:
        return _print_json([registry.describe(entry) for entry in entries])
    for entry in entries:
        here = "here" if registry.is_here(entry) else ""
        terms = "" if entry.terms == "open" else f" [licence: {entry.terms}]"
        line = f"{entry.name:21} {here:4} {entry.parameters:>7}  {entry.description}{terms}"
        sys.stdout.write(line.rstrip() + "\n")
    return 0


def _show(options: argparse.Namespace) -> int:
    entry = registry.model_entry(options.name)
    known = registry.describe(entry)
    if options.json:
        return _print_json(known)
    if not known.pop("is_here"):
        try:
            registry.weights_file(entry)
        except RegLoRAError as error:
            known["file"] = str(error)
    if "memory" in known:
        known["memory"] = _memory_text(known["memory"])
    for key, value in known.items():
        text = ", ".join(map(str, value)) if isinstance(value, tuple) else value
        sys.stdout.write(f"{key:16} {text}\n")
    return 0


def _memory_text(needed: dict[str, dict[str, int]]) -> str:
    """Return in one line what an example takes, in 32 bits and where 16 are fast."""
    parts = [
        f"{bits['32'] / 1e9:.1f} GB to {command} ({bits['16'] / 1e9:.1f} where 16 bits are fast)"
        for command, bits in needed.items()
    ]
    return f"{', '.join(parts)}: {EXAMPLE}"


def _print_json(content: Any) -> int:
    sys.stdout.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return 0


def _fetch(options: argparse.Namespace) -> int:
    """Fetch with a progress bar on stderr, or with events on stdout."""
    entry = registry.model_entry(options.name)
    if entry.weights:
        sys.stdout.write(f"{registry.weights_file(entry)}\n")
        return 0
    from reglora_core.models.cache import FetchOptions, fetch_model, licence_text

    how = FetchOptions(options.accept_licence, options.mirror)
    bar = None if options.events else ProgressBar(sys.stderr)
    report = Reporter(bar or JsonLines(sys.stdout))
    cancel_on_interrupt(report)
    licence = licence_text(entry)
    if bar is not None and (options.accept_licence or not entry.needs_acceptance):
        sys.stderr.write(f"{licence}\n")
    try:
        report("started", pid=os.getpid(), version=__version__, command="fetch", licence=licence)
        taken = fetch_model(options.name, options=how, report=report)
    except Cancelled:
        report("cancelled", files={})
        return Cancelled.exit_code
    except RegLoRAError as error:
        report("failed", message=error.message, hint=error.hint, exit_code=error.exit_code)
        return error.exit_code
    finally:
        if bar is not None:
            bar.close()
    report("finished", files={"weights": str(taken.path)})
    return 0 if options.events else _say(taken)


def _import(options: argparse.Namespace) -> int:
    from reglora_core.models.cache import import_model, licence_text

    taken = import_model(options.name, options.file)
    sys.stderr.write(f"{licence_text(registry.model_entry(options.name))}\n")
    return _say(taken)


def _say(taken: Taken) -> int:
    """Print where weights are; on stderr, how they match."""
    if taken.match is not None:
        sys.stderr.write(f"{taken.match.to_text()}\n")
    if taken.remark:
        sys.stderr.write(f"note: {taken.remark}\n")
    sys.stdout.write(f"{taken.path}\n")
    return 0
