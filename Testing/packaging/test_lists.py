"""CMake's lists and the catalogue against the tree."""

import json
import re
import struct

import pytest

import update_lists
from update_lists import MODULE, ROOT


@pytest.mark.parametrize("path", list(update_lists.lists()), ids=lambda path: path.name)
def test_the_lists_name_every_file(path):
    wanted = update_lists.lists()[path]
    assert path.read_text(encoding="utf-8") == wanted, "run Testing/packaging/update_lists.py"


def test_nothing_that_does_not_belong_is_listed():
    names = [*update_lists.module_scripts(), *update_lists.module_resources()]
    assert "RegLoRASegmentLib/Logic.py" in names
    assert "Resources/UI/RegLoRASegment.ui" in names
    assert not [name for name in names if name.endswith((".pyc", ".toml", ".orig"))]


def test_the_catalogue_entry_fits_the_extension():
    entry = json.loads((ROOT / "RegLoRASegment.json").read_text(encoding="utf-8"))
    lists = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert re.search(r"project\((\w+)", lists)[1] == "RegLoRASegment"
    assert entry["build_dependencies"] == ["PyTorch"]
    assert 'EXTENSION_DEPENDS "PyTorch"' in lists
    homepage = re.search(r'EXTENSION_HOMEPAGE "(\S+)"', lists)[1]
    assert homepage.endswith("/SlicerRegLoRASegment")
    assert entry["scm_url"] == f"{homepage}.git"
    assert set(entry) == {
        "$schema",
        "build_dependencies",
        "build_subdirectory",
        "category",
        "scm_revision",
        "scm_url",
        "tier",
    }


def test_the_icon_is_128_by_128_and_there_is_its_source():
    for path in (
        ROOT / "Resources" / "RegLoRASegment.png",
        MODULE / "Resources" / "Icons" / "RegLoRASegment.png",
    ):
        data = path.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", data[16:24]) == (128, 128)
    assert (ROOT / "Resources" / "RegLoRASegment.svg").is_file()


def test_the_pictures_that_the_extension_names_are_in_its_repository():
    lists = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    revision = json.loads((ROOT / "RegLoRASegment.json").read_text(encoding="utf-8"))["scm_revision"]
    homepage = re.search(r'EXTENSION_HOMEPAGE "(\S+)"', lists)[1]
    pictures = re.findall(r"https?://[^\s\"]+\.png", lists)
    assert len(pictures) == 3
    for address in pictures:
        name = address.removeprefix(f"{homepage}/raw/{revision}/")
        assert (ROOT / name).is_file(), address


def test_an_address_that_is_still_to_be_set_is_told_in_contributing():
    lists = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    homepage = re.search(r'EXTENSION_HOMEPAGE "(\S+)"', lists)[1]
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert (".invalid/" in homepage) == (homepage in contributing)


def test_the_module_file_is_short():
    assert len((MODULE / "RegLoRASegment.py").read_text(encoding="utf-8").splitlines()) < 150
