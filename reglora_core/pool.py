"""Many independent pieces of work, one after the other or many at once on Ray.

    for number, outcome in run_plain(make, items): ...
    for number, outcome in run_on_ray(make, items, RayConfig(workers=8)): ...

`make` is called once in every process and returns the function that does one item, so that what
the items share (a network, read patients) is loaded once. An item that fails says so in its
outcome; the others go on. With Ray an item whose worker dies is given to another worker.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Generic, TypeVar

from reglora_core.errors import InputError, RegLoRAError
from reglora_core.process import tune_process

Item = TypeVar("Item")
Result = TypeVar("Result")
Make = Callable[[], Callable[[Item], Result]]

LOCAL = "127.0.0.1"
OBJECT_STORE_BYTES = 200 * 2**20  # items and results are small; Ray's own choice is 30 % of memory


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What became of one item: its result, or why there is none.

    Attributes:
        is_defect: the failure is a defect of ours, or the worker died; not bad input.
    """

    result: Result | None = None
    failure: str = ""
    is_defect: bool = False


@dataclass(frozen=True)
class RayConfig:
    """Where the work is done, and what one item needs.

    Attributes:
        address: of a running cluster; empty: one on this computer alone, for this run.
        workers: items at once on this computer; 0: as many as its cores allow.
        cpus, gpus: of one item; gpus may be a part of one.
        retries: how often an item is given to another worker after its worker died.
    """

    address: str = ""
    workers: int = 0
    cpus: int = 1
    gpus: float = 0.0
    retries: int = 3

    def __post_init__(self) -> None:
        if self.workers < 0 or self.cpus < 1 or self.gpus < 0 or self.retries < 0:
            given = f"{self.workers} workers with {self.cpus} CPUs and {self.gpus} GPUs each"
            message = f"{given}, {self.retries} retries"
            raise InputError(message, "choose at least 1 CPU, and nothing below 0")

    @property
    def is_here(self) -> bool:
        """Whether the cluster is on this computer and only this computer reaches it."""
        return self.address.partition(":")[0] in ("", LOCAL, "localhost")

    @property
    def local_cpus(self) -> int:
        """The CPUs that a cluster on this computer is given."""
        if self.workers:
            return self.workers * self.cpus
        return max(self.cpus, os.cpu_count() or 1)


def has_ray() -> bool:
    """Tell whether Ray is installed."""
    return find_spec("ray") is not None


def run_plain(
    make: Make[Item, Result], items: Sequence[Item]
) -> Iterator[tuple[int, Outcome[Result]]]:
    """Do the items one after the other in this process; yield each one's place and outcome."""
    work = make()
    for number, item in enumerate(items):
        yield number, _outcome(work, item)


def run_on_ray(
    make: Make[Item, Result], items: Sequence[Item], config: RayConfig
) -> Iterator[tuple[int, Outcome[Result]]]:
    """Do the items on Ray; yield each one's place and outcome as they are finished.

    Items wait here until there is room for them, so a cluster may grow or shrink meanwhile.

    Raises:
        InputError: Ray is not installed, there is no cluster at the address, or this process
            used another cluster before it was to start one of its own.
    """
    with _cluster(config) as ray:
        task = ray.remote(
            num_cpus=config.cpus,
            num_gpus=config.gpus,
            max_retries=config.retries,
            retry_exceptions=False,
        )(_work_in_worker)
        shared = [ray.put(make)]  # in a list, so that a worker fetches it once and not per item
        waiting = _Waiting(ray, lambda item: task.remote(shared, item, config.cpus), items)
        yield from waiting.outcomes(_room(ray, config))


@dataclass
class _Waiting:
    """Items that wait or are being done, by Ray's reference to their result."""

    ray: Any
    submit: Callable[[Any], Any]
    items: Sequence[Any]
    _places: dict[Any, int] = field(default_factory=dict)
    _next: int = 0

    def outcomes(self, room: int) -> Iterator[tuple[int, Outcome[Any]]]:
        self._fill(room)
        while self._places:
            (ready,), _ = self.ray.wait(list(self._places), num_returns=1)
            place = self._places.pop(ready)
            self._fill(room)
            yield place, self._collect(ready)

    def _fill(self, room: int) -> None:
        while self._next < len(self.items) and len(self._places) < room:
            self._places[self.submit(self.items[self._next])] = self._next
            self._next += 1

    def _collect(self, ready: Any) -> Outcome[Any]:
        try:
            outcome: Outcome[Any] = self.ray.get(ready)
        except self.ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            return Outcome(failure=f"its worker died: {reason}", is_defect=True)
        return outcome


def _room(ray: Any, config: RayConfig) -> int:
    """Return how many items are handed over at once: twice what runs, so that none idles."""
    cpus = int(ray.cluster_resources().get("CPU", 1))
    return 2 * max(1, cpus // config.cpus)


_MADE: dict[str, Callable[[Any], Any]] = {}  # of a worker: what it works with, by `make`


def _work_in_worker(shared: list[Any], item: Any, threads: int) -> Outcome[Any]:
    """Do one item in a worker, which keeps what `make` returned for the next one."""
    key = shared[0].hex()
    if key not in _MADE:
        tune_process()
        import ray
        import torch

        torch.set_num_threads(threads)
        _MADE.clear()
        _MADE[key] = ray.get(shared[0])()
    return _outcome(_MADE[key], item)


def _outcome(work: Callable[[Any], Result], item: Any) -> Outcome[Result]:
    try:
        return Outcome(work(item))
    except RegLoRAError as error:
        return Outcome(failure=str(error))
    except Exception as error:  # a defect of ours stops its own item alone
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename}, line {place.lineno}"
        failure = f"defect: {type(error).__name__}: {error} ({where})"
        return Outcome(failure=" ".join(failure.split()), is_defect=True)


@contextmanager
def _cluster(config: RayConfig) -> Iterator[Any]:
    """Connect to a cluster, or start one that only this computer can reach and that ends here."""
    with _environment(config):
        ray = _ray()
        start = _connect if config.address else _start
        start(ray, config)
    try:
        yield ray
    finally:
        ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        message = "Ray is not installed"
        raise InputError(message, "pip install 'reglora-core[study]', or use --plain") from error
    return ray


def _connect(ray: Any, config: RayConfig) -> None:
    try:
        ray.init(address=config.address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        message = f"no Ray cluster at {config.address!r} ({reason})"
        raise InputError(
            message, "start one with `ray start --head`, or leave --ray out"
        ) from error


def _start(ray: Any, config: RayConfig) -> None:
    ray.init(
        address="local",
        num_cpus=config.local_cpus,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level="ERROR",
    )
    if ray.util.get_node_ip_address() != LOCAL:
        ray.shutdown()
        message = "Ray was loaded for another cluster before, and would serve the network"
        raise InputError(message, "start this in a process of its own")


@contextmanager
def _environment(config: RayConfig) -> Iterator[None]:
    """Set what Ray reads when it is imported and started, and put it back."""
    wanted = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    if config.is_here:
        # Ray serves every address of the computer, even where it is asked for 127.0.0.1, unless
        # clusters are off, which is what it does by itself on Windows and macOS
        wanted["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    if not config.address:
        wanted["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
