# ruff: noqa: I001 - the PyPI package of this name, not this file
"""Stand-in of slicer.packaging: asks and checks as Slicer does, but installs nothing.

`calls` records what would have been installed. A test may set `installer`, a function of
(requirements, options), to make packages appear or to raise subprocess.CalledProcessError.
Not modelled: the progress dialog, the restart question, skipping packages inside dependencies.
"""

import importlib.metadata
import logging
import shlex
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

import slicer

calls: list[dict] = []  # one entry for each pip_install
installer = None


def load_requirements(path):
    lines = (line.partition("#")[0].strip() for line in Path(path).read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


def load_pyproject_dependencies(path):
    project = tomllib.loads(Path(path).read_text())["project"]
    return [Requirement(text) for text in project.get("dependencies", [])]


def pip_check(req):
    """Tell whether one requirement, or each of a list, is met by what is installed."""
    if isinstance(req, list):
        return all(pip_check(one) for one in req)
    requirement = Requirement(req) if isinstance(req, str) else req
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True)


def pip_ensure(  # noqa: PLR0913, PLR0917 - Slicer's own signature
    requirements,
    constraints=None,
    skip_packages=None,
    prompt_install=True,
    prompt_restart=True,
    requester=None,
    skip_in_testing=True,
    show_progress=True,
):
    """Install what is missing after asking; raise RuntimeError if the user declines."""
    missing = [requirement for requirement in requirements if not pip_check(requirement)]
    if not missing:
        return None
    names = ", ".join(str(requirement) for requirement in missing)
    if skip_in_testing and slicer.app.testingEnabled():
        logging.info("Testing mode is enabled: skipping pip_ensure for [%s]", names)
        return None
    question = f"{len(missing)} Python package(s) need to be installed."
    if prompt_install and not slicer.util.confirmOkCancelDisplay(question, detailedText=names):
        message = "User declined package installation"
        raise RuntimeError(message)
    return pip_install(
        [str(requirement) for requirement in missing],
        constraints=constraints,
        skip_packages=skip_packages,
        show_progress=show_progress,
        requester=requester,
    )


def pip_install(  # noqa: PLR0913, PLR0917 - Slicer's own signature
    requirements,
    constraints=None,
    no_deps_requirements=None,
    skip_packages=None,
    blocking=True,
    show_progress=True,
    requester=None,
    parent=None,
    logCallback=None,
    completedCallback=None,
):
    """Record the call; nothing is installed unless a test has set `installer`."""
    wanted = shlex.split(requirements) if isinstance(requirements, str) else list(requirements)
    options = {
        "constraints": constraints,
        "no_deps_requirements": no_deps_requirements,
        "skip_packages": skip_packages,
        "requester": requester,
    }
    calls.append({"requirements": wanted, **options})
    if installer is not None:
        installer(wanted, options)
    if not blocking and completedCallback is not None:
        completedCallback(0)
    return [] if skip_packages is not None else None


def pip_uninstall(requirements, **_options):
    calls.append({"uninstall": requirements})
