"""Downloads of weights, from a server that stalls, truncates, redirects, lies and hangs up."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import published_weights
import pytest
import torch  # noqa: TID253

from reglora_core import cli
from reglora_core.errors import Cancelled, InputError, ModelError, OutputError
from reglora_core.models import download as downloads
from reglora_core.models import registry
from reglora_core.models.cache import FetchOptions, fetch_model
from reglora_core.models.checkpoints import sha256_of
from reglora_core.models.download import PART, STATE, Patience, download
from reglora_core.models.loading import load_model

QUICK = Patience(silence_s=0.3, attempts=3, pause_s=0.01)
CONTENT = bytes(range(256)) * 4096  # 1 MiB


@dataclass
class Server:
    """What the server has, does to each request in turn, and was asked."""

    url: str = ""
    content: bytes = CONTENT
    etag: str = '"one"'
    faults: list[str] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    server: Any

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        world: Server = self.server.world
        world.asked.append(dict(self.headers.items()))
        world.paths.append(self.path)
        fault = world.faults.pop(0) if world.faults else ""
        if fault.startswith("redirect "):
            self._empty(302, Location=fault.split()[1])
        elif fault.isdigit():
            self._empty(int(fault))
        elif fault == "web page":
            self._send(200, b"<html>sign in</html>", {"Content-Type": "text/html"})
        elif fault == "hang up":
            self.close_connection = True
        else:
            self._file(world, fault)

    def _empty(self, status: int, **headers: str) -> None:
        self._send(status, b"", headers)

    def _file(self, world: Server, fault: str) -> None:
        first = 0
        headers = {"ETag": world.etag} if world.etag else {}
        wanted = self.headers.get("Range", "")
        if wanted and self.headers.get("If-Range") == world.etag and fault != "no ranges":
            first = int(wanted.removeprefix("bytes=").removesuffix("-"))
            size = len(world.content)
            headers["Content-Range"] = f"bytes {first}-{size - 1}/{size}"
        body = world.content[first:]
        if fault == "wrong range":
            headers["Content-Range"] = headers["Content-Range"].replace(f" {first}-", " 7-")
        stop = {"truncate": len(body) // 2, "stall": len(body) // 2}.get(fault)
        self._send(206 if first else 200, body, headers, stop)
        if fault == "stall":
            world.released.wait(5)

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], stop: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:stop])
        self.wfile.flush()
        self.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "REGLORA_MIRROR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    world = Server()
    listener = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    listener.daemon_threads = True
    listener.world = world  # type: ignore[attr-defined]
    world.url = f"http://127.0.0.1:{listener.server_address[1]}"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield world
    world.released.set()
    listener.shutdown()
    thread.join()
    listener.server_close()


def test_a_file_arrives_whole_with_its_progress(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "PROGRESS_SECONDS", 0.0)
    told: list[dict[str, Any]] = []
    part = download(f"{server.url}/w.pt", tmp_path, lambda _, **fields: told.append(fields), QUICK)
    assert part == tmp_path / PART
    assert part.read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == [PART]
    assert all(fields["stage"] == "download" for fields in told)
    assert told[-1]["step"] == told[-1]["steps"] == 1
    assert server.asked[0]["User-Agent"].startswith("reglora/")


@pytest.mark.parametrize("fault", ["truncate", "stall"])
def test_a_broken_connection_goes_on_where_it_ended(
    server: Server, tmp_path: Path, fault: str
) -> None:
    server.faults = [fault]
    assert download(f"{server.url}/w.pt", tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert "Range" not in server.asked[0]
    assert server.asked[1]["Range"] == f"bytes={len(CONTENT) // 2}-"
    assert server.asked[1]["If-Range"] == server.etag


@pytest.mark.parametrize("fault", ["hang up", "503", "429"])
def test_a_passing_trouble_is_tried_again(server: Server, tmp_path: Path, fault: str) -> None:
    server.faults = [fault, fault]
    assert download(f"{server.url}/w.pt", tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert len(server.asked) == 3


def test_a_server_without_ranges_is_asked_for_the_whole_file_again(
    server: Server, tmp_path: Path
) -> None:
    server.faults = ["truncate", "no ranges"]
    assert download(f"{server.url}/w.pt", tmp_path, patience=QUICK).read_bytes() == CONTENT


def test_parts_of_a_file_without_a_mark_of_its_version_are_not_joined(
    server: Server, tmp_path: Path
) -> None:
    server.etag, server.faults = "", ["truncate"]
    assert download(f"{server.url}/w.pt", tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert "Range" not in server.asked[1]


def test_a_range_that_was_not_asked_for_is_not_appended(server: Server, tmp_path: Path) -> None:
    server.faults = ["truncate", "wrong range"]
    assert download(f"{server.url}/w.pt", tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert "Range" not in server.asked[2]


def test_a_server_that_stays_silent_is_given_up_and_the_next_run_goes_on(
    server: Server, tmp_path: Path
) -> None:
    server.faults = ["truncate", *["hang up"] * 3]
    with pytest.raises(ModelError, match=r"no answer any more after 1 MB .*goes on from there"):
        download(f"{server.url}/w.pt", tmp_path, patience=QUICK)
    assert (tmp_path / PART).stat().st_size == len(CONTENT) // 2
    assert download(f"{server.url}/w.pt", tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert server.asked[-1]["Range"] == f"bytes={len(CONTENT) // 2}-"


def test_a_file_that_changed_meanwhile_begins_anew(server: Server, tmp_path: Path) -> None:
    server.faults = ["truncate", *["hang up"] * 3]
    with pytest.raises(ModelError):
        download(f"{server.url}/w.pt", tmp_path, patience=QUICK)
    server.content, server.etag = CONTENT[::-1], '"two"'
    assert download(f"{server.url}/w.pt", tmp_path, patience=QUICK).read_bytes() == CONTENT[::-1]


def test_a_part_of_another_address_is_not_used(server: Server, tmp_path: Path) -> None:
    server.faults = ["truncate", *["hang up"] * 3]
    with pytest.raises(ModelError):
        download(f"{server.url}/old.pt", tmp_path, patience=QUICK)
    assert download(f"{server.url}/w.pt", tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert "Range" not in server.asked[-1]


def test_a_part_that_is_longer_than_the_file_begins_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / PART).write_bytes(CONTENT + b"more")
    origin = {"url": f"{server.url}/w.pt", "validator": server.etag, "total": len(CONTENT)}
    (tmp_path / STATE).write_text(json.dumps(origin))
    server.faults = ["416"]
    assert download(f"{server.url}/w.pt", tmp_path, patience=QUICK).read_bytes() == CONTENT


def test_redirects_are_followed(server: Server, tmp_path: Path) -> None:
    server.faults = [f"redirect {server.url}/elsewhere.pt"]
    assert download(f"{server.url}/w.pt", tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert server.paths == ["/w.pt", "/elsewhere.pt"]


def test_a_redirect_from_an_encrypted_address_to_an_open_one_is_refused() -> None:
    request = urllib.request.Request("https://example.org/w.pt?secret=1")
    follow = downloads._SafeRedirects().redirect_request
    with pytest.raises(ModelError, match="without encryption") as caught:
        follow(request, io.BytesIO(), 302, "Found", {}, "http://example.org/w.pt")
    assert "secret" not in str(caught.value)
    assert follow(request, io.BytesIO(), 302, "Found", {}, "https://other.org/w.pt") is not None


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("404", "refused with status 404"),
        ("403", "get the file by hand and import it"),
        ("web page", "gives a web page instead of the file"),
    ],
)
def test_a_refusal_is_told_at_once(server: Server, tmp_path: Path, fault: str, said: str) -> None:
    server.faults = [fault]
    with pytest.raises(ModelError, match=said):
        download(f"{server.url}/w.pt?key=secret", tmp_path, patience=QUICK)
    assert len(server.asked) == 1


def test_nobody_there_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no answer any more after 0 MB") as caught:
        download("http://127.0.0.1:9/w.pt", tmp_path, patience=QUICK)
    assert "\n" not in str(caught.value)


def test_a_cancel_stops_the_download_and_keeps_what_came(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr(downloads, "BLOCK", 1 << 16)

    def stop(_: str, **fields: Any) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        download(f"{server.url}/w.pt", tmp_path, stop, QUICK)
    kept = (tmp_path / PART).stat().st_size
    assert 0 < kept < len(CONTENT)
    assert download(f"{server.url}/w.pt", tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert server.asked[-1]["Range"] == f"bytes={kept}-"


def test_a_cancel_is_heard_while_a_server_is_waited_for(server: Server, tmp_path: Path) -> None:
    server.faults = ["503"] * 9

    def stop(_: str, **fields: Any) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        download(f"{server.url}/w.pt", tmp_path, stop, replace(QUICK, pause_s=60, attempts=9))
    assert len(server.asked) == 1


def test_a_disk_that_is_too_small_is_told_before(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match="1 MB are needed, 0 are free"):
        download(f"{server.url}/w.pt", tmp_path, patience=QUICK)


def test_the_proxy_of_the_environment_is_asked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    part = download("http://weights.invalid/w.pt", tmp_path, patience=QUICK)
    assert part.read_bytes() == CONTENT
    assert server.paths == ["http://weights.invalid/w.pt"]


@pytest.fixture
def weights(server: Server, tmp_path: Path) -> Server:
    """Serve weights that fit suprem-segresnet."""
    _, _, content = published_weights.checkpoint("SuPreM SegResNet")
    buffer = io.BytesIO()
    torch.save(content, buffer)
    server.content = buffer.getvalue()
    return server


NAME = "suprem-segresnet"
FILE = "supervised_suprem_segresnet_2100.pth"


def options(server: Server, **more: Any) -> FetchOptions:
    return FetchOptions(accept_licence=True, mirror=f"{server.url}/mirror/", patience=QUICK, **more)


def test_weights_are_fetched_from_a_mirror_recorded_and_loaded(
    weights: Server, tmp_path: Path
) -> None:
    weights.faults = ["truncate", "hang up"]
    taken = fetch_model(NAME, tmp_path, options(weights))
    assert weights.paths == [f"/mirror/{NAME}/{FILE}"] * 3
    assert taken.path == tmp_path / NAME / "weights.pth"
    assert taken.match is not None
    assert taken.match.matched == taken.match.wanted == 79
    digest = hashlib.sha256(weights.content).hexdigest()
    assert json.loads((tmp_path / NAME / "record.json").read_text()) == {
        "sha256": digest,
        "url": f"{weights.url}/mirror/{NAME}/{FILE}",
        "licence": registry.model_entry(NAME).licence,
    }
    assert sorted(path.name for path in (tmp_path / NAME).iterdir()) == [
        "record.json",
        "weights.pth",
    ]
    assert load_model(NAME, torch.device("cpu"), tmp_path).sha256 == digest


def test_weights_that_are_here_are_not_fetched_again(weights: Server, tmp_path: Path) -> None:
    first = fetch_model(NAME, tmp_path, options(weights)).path
    assert fetch_model(NAME, tmp_path, FetchOptions()).path == first
    assert len(weights.paths) == 1


def test_weights_that_were_harmed_are_fetched_again(weights: Server, tmp_path: Path) -> None:
    path = fetch_model(NAME, tmp_path, options(weights)).path
    path.write_bytes(b"harmed")
    assert fetch_model(NAME, tmp_path, options(weights)).path == path
    assert path.read_bytes() == weights.content


def test_a_later_download_must_have_the_checksum_of_the_first(
    weights: Server, tmp_path: Path
) -> None:
    path = fetch_model(NAME, tmp_path, options(weights)).path
    path.unlink()
    genuine = weights.content
    weights.content = genuine + b"x"
    with pytest.raises(ModelError, match=r"what came has checksum \w{12}, recorded in .* was"):
        fetch_model(NAME, tmp_path, options(weights))
    assert [file.name for file in (tmp_path / NAME).iterdir()] == ["record.json"]
    weights.content = genuine
    assert fetch_model(NAME, tmp_path, options(weights)).path.read_bytes() == genuine


@pytest.mark.parametrize("is_right", [True, False])
def test_a_checksum_that_the_publishers_give_is_checked_at_once(
    weights: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_right: bool
) -> None:
    md5 = hashlib.md5(weights.content).hexdigest() if is_right else "0" * 32
    entry = replace(registry.model_entry(NAME), md5=md5)
    monkeypatch.setattr(registry, "model_entry", lambda _: entry)
    if is_right:
        assert fetch_model(NAME, tmp_path, options(weights)).path.is_file()
        return
    with pytest.raises(ModelError, match="its publishers give 000000000000"):
        fetch_model(NAME, tmp_path, options(weights))
    assert list((tmp_path / NAME).iterdir()) == []


@pytest.mark.parametrize("kind", ["of another network", "no weights"])
def test_what_does_not_fit_is_not_kept(server: Server, tmp_path: Path, kind: str) -> None:
    if kind == "of another network":
        buffer = io.BytesIO()
        torch.save(published_weights.checkpoint("SuPreM U-Net")[2], buffer)
        server.content = buffer.getvalue()
    with pytest.raises(ModelError):
        fetch_model(NAME, tmp_path, options(server))
    assert list((tmp_path / NAME).iterdir()) == []


def test_a_licence_that_is_not_open_must_be_accepted_before_anything_is_fetched(
    weights: Server, tmp_path: Path
) -> None:
    for name, said in {
        "clip-driven-swinunetr": "CC BY-NC-ND 4.0 (not for commercial use), see https://",
        "fseft-swinunetr": "none stated (unclear), see https://github.com/jusiro",
    }.items():
        with pytest.raises(InputError) as caught:
            fetch_model(name, tmp_path, FetchOptions(mirror=weights.url))
        assert said in str(caught.value)
        assert "--accept-licence" in str(caught.value)
    assert weights.paths == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mirror", ["file:///etc", "mirror", "ftp://x/y", "http://"])
def test_a_mirror_that_is_no_web_address_is_named(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(ModelError, match="not a web address"):
        fetch_model(NAME, tmp_path, FetchOptions(accept_licence=True, mirror=mirror))


def test_what_is_not_offered_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'swinunetr' is not offered .* models import swinunetr"):
        fetch_model("swinunetr", tmp_path)


@pytest.fixture
def the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(registry, "default_cache", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def test_the_command_fetches_with_a_licence_and_says_how_it_matched(
    weights: Server, the_cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["models", "fetch", NAME, "--mirror", weights.url]
    assert cli.main(command) == 2
    refused = capfd.readouterr()
    assert refused.out == ""
    assert refused.err.count("\n") == 1
    assert refused.err.startswith(f"reglora: licence of {NAME}: stated differently")
    assert cli.main([*command, "--accept-licence"]) == 0
    done = capfd.readouterr()
    assert done.out == f"{the_cache / NAME / 'weights.pth'}\n"
    assert "79 of 79 tensors of the network matched, 4 of the file are left over" in done.err
    assert cli.main(["models", "list"]) == 0
    line = next(x for x in capfd.readouterr().out.splitlines() if x.startswith(NAME))
    assert " here " in line
    assert line.endswith("[licence: unclear]")


def test_the_mirror_of_the_environment_and_events(
    weights: Server,
    the_cache: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REGLORA_MIRROR", f"{weights.url}/of/the/hospital")
    weights.faults = ["404"]
    command = ["models", "fetch", NAME, "--accept-licence", "--events"]
    assert cli.main(command) == 2
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["started", "failed"]
    assert events[0]["licence"].startswith("licence of suprem-segresnet")
    assert weights.paths == [f"/of/the/hospital/{NAME}/{FILE}"]
    assert cli.main(command) == 0
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert {event["stage"] for event in events if event["event"] == "progress"} == {
        "download",
        "check",
    }
    assert events[-1]["event"] == "finished"
    assert events[-1]["files"] == {"weights": str(the_cache / NAME / "weights.pth")}


def test_a_cancelled_command_ends_with_three(
    weights: Server,
    the_cache: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from reglora_core.models import command

    monkeypatch.setattr(command, "cancel_on_interrupt", lambda reporter: reporter.cancel())
    arguments = ["models", "fetch", NAME, "--accept-licence", "--mirror", weights.url]
    assert cli.main(arguments) == 3
    assert capfd.readouterr().err.endswith("cancelled; what was finished is kept\n")
    assert cli.main([*arguments, "--events"]) == 3
    assert json.loads(capfd.readouterr().out)["event"] == "cancelled"
    assert not (the_cache / NAME / "weights.pth").exists()


def test_an_import_shows_licence_match_and_a_checksum_that_differs(
    the_cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "from IT.pt"
    torch.save(published_weights.checkpoint("MONAI whole body")[2], file)
    assert cli.main(["models", "import", "monai-wholebody", str(file)]) == 0
    done = capfd.readouterr()
    assert done.out == f"{the_cache / 'monai-wholebody' / 'weights.pt'}\n"
    assert "licence of monai-wholebody: Apache-2.0, see https://" in done.err
    assert "79 of 79 tensors" in done.err
    assert "note: its checksum is not the one that the publishers give" in done.err
    assert sha256_of(the_cache / "monai-wholebody" / "weights.pt") == sha256_of(file)
