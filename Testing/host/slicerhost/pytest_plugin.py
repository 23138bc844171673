"""Fixtures for tests in the host: pytest_plugins = "slicerhost.pytest_plugin"."""

import os
import sys

import pytest

from .host import Host

_exit_code = []


@pytest.fixture
def host():
    """The host of this process with an empty scene; an error in a slot fails the test."""
    host = Host.instance()
    host.new_scene()
    host.errors.take()
    yield host
    host.process_events()


def pytest_sessionfinish(exitstatus):
    _exit_code.append(int(exitstatus))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure():
    """End the process here: the interpreter's normal end crashes in VTK."""
    sys.stdout.flush()
    sys.stderr.flush()
    if _exit_code:
        os._exit(_exit_code[0])
