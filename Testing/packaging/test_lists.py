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
    repository = entry["scm_url"].rsplit("/", 1)[1]
    assert repository == "SlicerRegLoRASegment.git"
    assert entry["scm_url"].removesuffix(".git") in lists
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


def test_the_pictures_that_the_extension_names_are_in_the_tree():
    lists = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    for name in re.findall(r"/main/(\S+\.png)", lists):
        assert (ROOT / name).is_file(), name


def test_the_module_file_is_short():
    assert len((MODULE / "RegLoRASegment.py").read_text(encoding="utf-8").splitlines()) < 150
