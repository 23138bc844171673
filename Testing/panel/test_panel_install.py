"""First use: the panel opens without torch, and installs it only after asking."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import slicer
import tomllib

from panel_scene import ROOT

pytest_plugins = "slicerhost.pytest_plugin"


@pytest.fixture
def Install(host):
    from RegLoRASegmentLib import Install

    return Install


@pytest.fixture
def packages(host, monkeypatch):
    """Return the installed packages as a dictionary that a test can change."""
    installed = {"numpy": "2.4.6", "SimpleITK": "2.5.0", "torch": "2.8.0", "scipy": "1.16"}
    installed |= {"monai": "1.5", "safetensors": "0.6", "matplotlib": "3.10", "einops": "0.8"}

    def version(name):
        try:
            return installed[name]
        except KeyError:
            raise importlib.metadata.PackageNotFoundError(name) from None

    monkeypatch.setattr(importlib.metadata, "version", version)
    return installed


@pytest.fixture
def pip(host, packages, monkeypatch):
    """Record what pip is asked for; `pip.fails` makes it raise, `pip.works` installs."""
    import slicer.packaging

    record = SimpleNamespace(calls=[], constraints="", error=None)

    def installer(wanted, options):
        record.calls.append(wanted)
        path = options.get("constraints")
        record.constraints = Path(path).read_text() if path else ""
        if record.error is not None:
            raise record.error
        for name in ("monai", "safetensors", "scipy", "matplotlib", "torch"):
            if any(text.startswith(name) for text in wanted):
                packages[name] = "99"

    monkeypatch.setattr(slicer.packaging, "installer", installer)
    return record


@pytest.fixture
def consent(monkeypatch):
    """Return what the user is asked; answered with yes unless a test clears `consent.answer`."""
    record = SimpleNamespace(answer=True, questions=[])

    def ask(text, *_arguments, **_options):
        record.questions.append(text)
        return record.answer

    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", ask)
    return record


def test_nothing_is_missing_where_all_is_there(Install, packages):
    assert Install.missing() == []
    packages["monai"] = "1.2"
    assert Install.missing() == ["monai>=1.4"]


def test_the_requirements_are_those_of_the_library(Install):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    own = {f"{name}>=" for name in Install.OWN}
    library = [text for text in project["dependencies"] if not any(text.startswith(n) for n in own)]
    assert sorted(library) == sorted([Install.TORCH, *Install.REQUIREMENTS])


@pytest.mark.usefixtures("consent")
def test_slicers_own_packages_are_pinned_and_never_asked_for(Install, packages, pip):
    del packages["monai"]
    Install.install()
    assert pip.calls == [["monai>=1.4"]]
    assert pip.constraints == "numpy==2.4.6\nSimpleITK==2.5.0\n"


def test_a_user_who_declines_gets_no_package_and_a_line(Install, packages, pip, consent):
    del packages["monai"]
    consent.answer = False
    with pytest.raises(Install.InstallError):
        Install.install()
    assert pip.calls == []


@pytest.mark.usefixtures("consent")
def test_a_failure_says_what_failed_and_what_to_do(Install, packages, pip):
    del packages["monai"]
    pip.error = subprocess.CalledProcessError(1, ["pip", "install"])
    with pytest.raises(Install.InstallError) as caught:
        Install.install()
    assert "Not installed: monai>=1.4" in caught.value.message
    assert "folder of wheels" in caught.value.hint


def test_torch_comes_only_through_its_extension(Install, packages, pip, host, monkeypatch):
    del packages["torch"]
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    with pytest.raises(Install.InstallError, match="The extension PyTorch is missing"):
        Install.install()
    calls = []

    class PyTorchUtilsLogic:
        def installTorch(self, **options):
            calls.append(options)
            packages["torch"] = "2.9"
            return object()

    monkeypatch.setitem(sys.modules, "PyTorchUtils", SimpleNamespace(PyTorchUtilsLogic=PyTorchUtilsLogic))
    Install.install()
    assert calls == [{"askConfirmation": True, "torchVersionRequirement": ">=2.4"}]
    assert pip.calls == []


def test_slicer_5_10_asks_and_uses_its_pip(Install, packages, consent, monkeypatch):
    del packages["monai"]
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    monkeypatch.delattr(slicer, "packaging", raising=False)
    calls = []

    def pipInstall(requirements, **_options):
        calls.append(requirements)
        packages["monai"] = "1.5"

    monkeypatch.setattr(slicer.util, "pip_install", pipInstall)
    Install.install()
    assert "monai>=1.4" in consent.questions[0]
    assert calls[0][:2] == ["monai>=1.4", "--constraint"]


def test_a_folder_of_wheels_needs_no_network(Install, packages, consent, monkeypatch, tmp_path):
    del packages["monai"]
    with pytest.raises(Install.InstallError, match="holds no wheels"):
        Install.installFromFolder(str(tmp_path))
    (tmp_path / "monai-1.5-py3-none-any.whl").write_bytes(b"")
    calls = []

    def pipInstall(requirements, **_options):
        calls.append(requirements)
        packages["monai"] = "1.5"

    monkeypatch.setattr(slicer.util, "pip_install", pipInstall)
    Install.installFromFolder(str(tmp_path))
    assert calls[0][:4] == ["monai>=1.4", "--no-index", "--find-links", str(tmp_path)]
    assert len(consent.questions) == 1


def test_the_panel_offers_what_is_missing(Install, packages, host, pip, consent):
    from panel_scene import MODULE

    if not hasattr(slicer.modules, "reglorasegment"):
        host.load_module(MODULE)
    panel = host.select_module("RegLoRASegment")
    panel.logic.workerCommand = None
    panel.updateInstall()
    assert not panel.ui.installFrame.visible
    del packages["monai"]
    panel.enter()
    assert panel.ui.installFrame.visible
    assert "monai>=1.4" in panel.ui.installLabel.text
    host.click(panel.ui.installButton)
    assert not panel.ui.installFrame.visible


def test_sample_volumes_are_registered_by_url_and_hash(host, monkeypatch):
    from RegLoRASegmentLib.SampleVolumes import CATEGORY, registerSampleVolumes

    monkeypatch.setattr(slicer.modules, "sampleDataSources", {}, raising=False)
    registerSampleVolumes()
    sources = slicer.modules.sampleDataSources[CATEGORY]
    assert [source.nodeNames for source in sources] == ["CTLiver", "CTChest"]
    for source in sources:
        digest = source.checksums.removeprefix("SHA256:")
        assert len(digest) == 64
        assert source.uris.endswith(digest)


def test_the_panel_opens_without_torch():
    """No module of the panel imports what is not there at first use."""
    script = (
        "import sys; sys.path[:0] = {paths!r}\n"
        "for name in ('torch', 'monai', 'scipy', 'SimpleITK', 'matplotlib', 'safetensors'):\n"
        "    sys.modules[name] = None\n"
        "from slicerhost import Host\n"
        "host = Host(); host.load_module({module!r}); host.select_module('RegLoRASegment')\n"
        "print('opened'); sys.stdout.flush(); import os; os._exit(0)\n"
    )
    paths = [str(ROOT / "Testing" / "host"), str(ROOT)]
    module = str(ROOT / "RegLoRASegment" / "RegLoRASegment.py")
    command = [sys.executable, "-c", script.format(paths=paths, module=module)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "opened" in done.stdout, done.stderr[-2000:]
