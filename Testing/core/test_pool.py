"""Many pieces of work: in this process, and on Ray with a worker that is killed midway."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pool_work
import pytest

from reglora_core.errors import InputError
from reglora_core.pool import Outcome, RayConfig, has_ray, run_on_ray, run_plain

needs_ray = pytest.mark.skipif(not has_ray(), reason="Ray is not installed")


def test_an_item_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    outcomes = list(run_plain(partial(pool_work.squares, tmp_path), [2, -1, -2, 5]))
    assert [number for number, _ in outcomes] == [0, 1, 2, 3]
    two, bad, defect, five = (outcome for _, outcome in outcomes)
    assert (two.result, five.result) == (4, 25)
    assert bad == Outcome(failure="item -1; leave it out")
    assert defect.is_defect
    assert defect.failure.startswith("defect: KeyError: 'two' (")
    assert pool_work.notes(tmp_path, "made") == 1


@pytest.mark.parametrize("wrong", [{"cpus": 0}, {"workers": -1}, {"gpus": -0.5}, {"retries": -1}])
def test_a_pool_that_cannot_be_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="choose at least 1 CPU"):
        RayConfig(**wrong)  # type: ignore[arg-type]


@dataclass
class Session:
    """What a session on Ray left: outcomes by item, and where it listened meanwhile."""

    folder: Path
    outcomes: dict[int, Outcome[int]]
    addresses: set[str]


@pytest.fixture(scope="module")
def a_session_with_a_death(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Eight items on two workers; the worker of item 3 is killed once."""
    folder = tmp_path_factory.mktemp("death")
    items = [0, 1, 2, 3, 4, 5, -1, -2]
    make = partial(pool_work.squares_after_a_death, folder)
    outcomes, addresses = {}, set()
    for number, outcome in run_on_ray(make, items, RayConfig(workers=2)):
        addresses |= listening_addresses(descendants(os.getpid()))
        outcomes[items[number]] = outcome
    return Session(folder, outcomes, addresses)


@needs_ray
def test_nothing_is_lost_when_a_worker_is_killed(a_session_with_a_death: Session) -> None:
    outcomes = a_session_with_a_death.outcomes
    squares = {item: outcomes[item].result for item in range(6)}
    assert squares == {0: 0, 1: 1, 2: 4, 3: 9, 4: 16, 5: 25}
    assert outcomes[-1] == Outcome(failure="item -1; leave it out")
    assert outcomes[-2].is_defect


@needs_ray
def test_only_what_the_killed_worker_had_begun_is_done_again(
    a_session_with_a_death: Session,
) -> None:
    folder = a_session_with_a_death.folder
    assert pool_work.notes(folder, "deaths") == 2
    counts = {item: pool_work.notes(folder, str(item)) for item in (0, 1, 2, 3, 4, 5, -1, -2)}
    assert counts == dict.fromkeys(counts, 1)


@needs_ray
def test_a_local_cluster_serves_this_computer_alone(a_session_with_a_death: Session) -> None:
    assert a_session_with_a_death.addresses == {"127.0.0.1"}


@needs_ray
def test_nothing_of_a_local_cluster_is_left(a_session_with_a_death: Session) -> None:
    assert a_session_with_a_death.outcomes
    names = {name_of(process) for process in descendants(os.getpid())}
    assert not {name for name in names if name.startswith(("ray", "gcs"))}
    assert "PYTHONPATH" not in os.environ or "pool_work" not in os.environ["PYTHONPATH"]


@needs_ray
def test_an_item_whose_worker_always_dies_is_a_failure_of_its_own(tmp_path: Path) -> None:
    make = partial(pool_work.squares_after_a_death, tmp_path, 9)
    outcomes = dict(run_on_ray(make, [2, 3], RayConfig(workers=1, retries=1)))
    assert outcomes[0].result == 4
    assert outcomes[1].is_defect
    assert outcomes[1].failure.startswith("its worker died: ")
    assert pool_work.notes(tmp_path, "deaths") == 2


@needs_ray
def test_a_cluster_that_is_not_there_is_refused(tmp_path: Path) -> None:
    make = partial(pool_work.squares, tmp_path)
    with pytest.raises(InputError, match="no Ray cluster at 'localhost:none'"):
        list(run_on_ray(make, [1], RayConfig("localhost:none")))


CLUSTER = """
import ray
found = ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
print(found.address_info["gcs_address"], flush=True)
input()
"""


@needs_ray
def test_a_cluster_that_is_running_is_used_and_goes_on(tmp_path: Path) -> None:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    off = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **off, "PYTHONPATH": path},
    ) as cluster:
        assert cluster.stdout is not None
        config = RayConfig(cluster.stdout.readline().strip())
        assert config.is_here
        make = partial(pool_work.squares, tmp_path)
        for items in ([2, 3], [4]):
            outcomes = dict(run_on_ray(make, items, config))
            assert [outcomes[n].result for n in sorted(outcomes)] == [item**2 for item in items]
        cluster.communicate("end\n", timeout=60)
    assert pool_work.notes(tmp_path, "made") == 2  # once for each run


def descendants(process: int) -> set[int]:
    """Return the processes that a process started, and those that they did."""
    children: dict[int, set[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        children.setdefault(int(fields[1]), set()).add(int(folder.name))
    found, new = set(), {process}
    while new:
        new = {child for parent in new for child in children.get(parent, set())}
        found |= new
    return found


def name_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return ""


def listening_addresses(processes: set[int]) -> set[str]:
    """Return the addresses on which processes accept TCP connections, IPv4-mapped ones as IPv4."""
    own = set()
    for process in processes:
        for descriptor in Path(f"/proc/{process}/fd").glob("*"):
            try:
                own.add(os.readlink(descriptor))  # noqa: PTH115
            except OSError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
                raw = bytes.fromhex(fields[1].partition(":")[0])[-4:][::-1]
                found.add(".".join(str(part) for part in raw))
    return found
