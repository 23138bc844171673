"""Downloads that survive what networks do: resumed, checked, cancelled between two blocks.

Standard library only. The proxies of the environment (https_proxy, no_proxy) are used. What has
arrived is kept in ``download.part`` beside ``download.json``, which says of what; the next attempt,
or the next command, goes on from there if the server still has the same file.
"""

from __future__ import annotations

import http.client
import json
import math
import shutil
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reglora_core import __version__
from reglora_core.errors import ModelError, OutputError, RegLoRAError
from reglora_core.events import Report, ignore
from reglora_core.writing import write_text

BLOCK = 1 << 18
PART, STATE = "download.part", "download.json"
# statuses that may pass: too many requests, and the server's own troubles
PASSING = (408, 425, 429, 500, 502, 503, 504)
PROGRESS_SECONDS = 0.2


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server.

    Attributes:
        silence_s: without a byte, until the connection is given up and made again.
        attempts: connections in turn that bring nothing, until the download is given up.
        pause_s: before the second of them; twice as long before each further one.
    """

    silence_s: float = 20.0
    attempts: int = 5
    pause_s: float = 1.0


@dataclass(frozen=True)
class _Origin:
    """What a partial file is a part of."""

    url: str
    validator: str = ""  # the server's mark of this version of the file
    total: int = 0  # bytes; 0: the server does not say


class _Interrupted(Exception):
    """The connection ended early, or the server asks for a pause."""


def download(
    url: str, folder: Path, report: Report = ignore, patience: Patience | None = None
) -> Path:
    """Download a file into a folder and return its path, ``download.part``.

    Args:
        url: http or https.
        folder: exists, and is nobody else's at the time.
        report: gets progress events, stage ``download``, step and steps in MB; where it raises
            `Cancelled`, what has arrived is kept.
        patience: how long to wait for the server.

    Raises:
        ModelError: the server does not give the file; the text says why.
        OutputError: the disk is full, or cannot be written.
    """
    return _Download(url, folder, report, patience or Patience()).run()


class _Download:
    def __init__(self, url: str, folder: Path, report: Report, patience: Patience) -> None:
        self.url, self.patience = url, patience
        self.part, self.state = folder / PART, folder / STATE
        self.report = report
        self.start = self.last_report = time.monotonic()
        self.received = 0  # bytes of this run
        self.opener = urllib.request.build_opener(_SafeRedirects)

    def run(self) -> Path:
        failures = 0
        while True:
            before = self.received
            try:
                self._attempt()
            except _Interrupted as error:
                failures = 1 if self.received > before else failures + 1
                if failures >= self.patience.attempts:
                    raise self._given_up(error) from error
                self._pause(self.patience.pause_s * 2 ** (failures - 1))
            except OSError as error:  # of the disk: those of the network are caught where they are
                message = f"{self.part}: cannot be written ({error.strerror or error})"
                raise OutputError(message, "make room, or check the folder") from error
            else:
                self.state.unlink(missing_ok=True)
                return self.part

    def _given_up(self, error: Exception) -> RegLoRAError:
        have = self.part.stat().st_size if self.part.is_file() else 0
        message = f"{_shown(self.url)}: no answer any more after {_mb(have)} MB ({error})"
        return ModelError(message, "run the same command again; it goes on from there")

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._tell(self._origin().total, is_due=True)
            time.sleep(min(left, PROGRESS_SECONDS))

    def _origin(self) -> _Origin:
        """Return what the partial file is of; of nothing where that is not known."""
        try:
            return _Origin(**json.loads(self.state.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return _Origin("")

    def _attempt(self) -> None:
        """Get the rest of the file by one connection."""
        origin = self._origin()
        have = self.part.stat().st_size if self.part.is_file() else 0
        if origin.url != self.url or not origin.validator:
            have = 0
        if have and have == origin.total:
            return
        with self._open(have, origin) as answer:
            goes_on = answer.status == http.HTTPStatus.PARTIAL_CONTENT
            total = _total(answer, have)
            if goes_on and (_first_byte(answer) != have or total != origin.total):
                self._forget()
                message = "the file changed while it was downloaded"
                raise _Interrupted(message)
            if not goes_on:
                self._begin(_Origin(self.url, _validator(answer), total))
            self._receive(answer, have if goes_on else 0, total)

    def _open(self, have: int, origin: _Origin) -> Any:
        headers = {"User-Agent": f"reglora/{__version__}", "Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": origin.validator}
        request = urllib.request.Request(self.url, headers=headers)
        try:
            answer = self.opener.open(request, timeout=self.patience.silence_s)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                self._forget()
            elif error.code not in PASSING:
                raise _refusal(self.url, error.code, error.reason) from error
            message = f"status {error.code}"
            raise _Interrupted(message) from error
        except (OSError, http.client.HTTPException) as error:
            raise _Interrupted(_reason(error)) from error
        if answer.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            answer.close()
            message = f"{_shown(self.url)}: gives a web page instead of the file"
            hint = "download it in a browser, then: reglora models import NAME FILE"
            raise ModelError(message, hint)
        return answer

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)

    def _begin(self, origin: _Origin) -> None:
        self._forget()
        free = shutil.disk_usage(self.part.parent).free
        if origin.total > free:
            message = f"{self.part.parent}: {_mb(origin.total)} MB are needed, {_mb(free)} are free"
            raise OutputError(message, "make room on that disk")
        write_text(self.state, json.dumps(asdict(origin)))

    def _receive(self, answer: Any, have: int, total: int) -> None:
        with self.part.open("ab" if have else "wb") as file:
            while block := _read(answer):
                file.write(block)
                have += len(block)
                self.received += len(block)
                self._tell(total, have)
        if total and have != total:
            message = f"{have} of {total} bytes came"
            raise _Interrupted(message)
        self._tell(total, have, is_due=True)

    def _tell(self, total: int, have: int | None = None, is_due: bool = False) -> None:
        now = time.monotonic()
        if not is_due and now - self.last_report < PROGRESS_SECONDS:
            return
        self.last_report = now
        if have is None:
            have = self.part.stat().st_size if self.part.is_file() else 0
        pace = self.received / max(now - self.start, 1e-3)
        left = (total - have) / pace if total and pace else math.nan
        steps = max(_mb(total or have), 1)
        step = min(_mb(have), steps)
        self.report("progress", stage="download", step=step, steps=steps, seconds_left=left)


def _read(answer: Any) -> bytes:
    """Return what has come, at most a block: a slow server must not delay a cancel."""
    try:
        return bytes(answer.read1(BLOCK))
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(_reason(error)) from error


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from an encrypted connection to an open one."""

    def redirect_request(self, *given: Any) -> urllib.request.Request | None:
        request, target = given[0], given[-1]
        if request.full_url.startswith("https:") and not target.startswith("https:"):
            message = f"{_shown(request.full_url)}: leads to an address without encryption"
            raise ModelError(message, "get the file in another way, then import it")
        return super().redirect_request(*given)


def _reason(error: BaseException) -> str:
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    return str(inner) or type(inner).__name__


def _refusal(url: str, status: int, reason: str) -> ModelError:
    hint = "the publishers may have moved it; see `reglora models show` for their page"
    if status in (401, 403, 407):
        hint = "the server, or a proxy, wants you to sign in; get the file by hand and import it"
    return ModelError(f"{_shown(url)}: refused with status {status} ({reason})", hint)


def _shown(url: str) -> str:
    """Return the address without what may be secret in it."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"


def _validator(answer: Any) -> str:
    """Return the server's mark of this version, good for If-Range; empty where it has none."""
    tag = answer.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return str(tag)
    return str(answer.headers.get("Last-Modified", ""))


def _first_byte(answer: Any) -> int:
    unit, _, rest = answer.headers.get("Content-Range", "").partition(" ")
    first = rest.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdigit() else -1


def _total(answer: Any, have: int) -> int:
    """Return the whole file's bytes, 0 where the server does not say."""
    if answer.status == http.HTTPStatus.PARTIAL_CONTENT:
        total = answer.headers.get("Content-Range", "").rpartition("/")[2]
        if not total.isdigit():
            length = answer.headers.get("Content-Length", "")
            return have + int(length) if length.isdigit() else 0
        return int(total)
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else 0


def _mb(size: int) -> int:
    return round(size / 1e6)
