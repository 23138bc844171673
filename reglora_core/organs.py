"""Organs: what a label value means, how it is drawn and what it is called in SNOMED CT.

Colours follow the spirit of Slicer's GenericAnatomyColors, with neighbours kept apart. The
terminology entry of an organ is the string that Slicer stores with a segment::

    context ~ category ~ type ~ modifier ~ anatomic context ~ region ~ region modifier

each of the five codes being ``scheme^value^meaning``.
"""

from __future__ import annotations

import colorsys
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reglora_core.errors import InputError

MAX_LABEL_VALUE = 65535

_RIGHT = "SCT^24028007^Right"
_LEFT = "SCT^7771000^Left"
_NO_CODE = "^^"


@dataclass(frozen=True)
class Organ:
    """One organ of a label map."""

    value: int  # its label value, unique in a label map
    name: str  # as the user wrote it
    color: tuple[int, int, int]  # red, green, blue, each 0..255
    terminology: str = ""  # Slicer's serialised terminology entry; empty if unknown


def organ(value: int, name: str) -> Organ:
    """Return the organ of that name, or one with a stable colour if the name is not known.

    Upper and lower case, the order of the words and what stands between them do not matter:
    "left kidney", "Kidney_Left" and "LeftKidney" are one organ. The name is kept as given.
    """
    key = name_key(name)
    if key in _KNOWN:
        color, terminology = _KNOWN[key]
        return Organ(value, name, color, terminology)
    return Organ(value, name, _color_of(key))


def parse_names(names: str | Path) -> dict[int, str]:
    """Return the names by label value.

    Args:
        names: ``"1=liver,2=spleen"``, or a JSON file with ``{"1": "liver"}`` or
            ``{"liver": 1}``. A string without "=" is taken for the path of such a file.

    Raises:
        InputError: the text or the file does not say which value is which organ.
    """
    if isinstance(names, Path) or "=" not in names:
        return _names_from_file(Path(names))
    pairs = [_pair_from_text(part) for part in names.split(",") if part.strip()]
    return _unique(pairs, "--names")


def _names_from_file(path: Path) -> dict[int, str]:
    hint = 'give a JSON file like {"1": "liver"}, or 1=liver,2=spleen'
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        message = f"{path}: the names cannot be read ({error.strerror})"
        raise InputError(message, hint) from error
    except ValueError as error:
        message = f"{path.name}: not a JSON file ({error})"
        raise InputError(message, hint) from error
    if not isinstance(content, dict) or not content:
        message = f"{path.name}: holds no table of label values and names"
        raise InputError(message, hint)
    return _unique([_pair(key, value, path.name) for key, value in content.items()], path.name)


def _pair(key: str, value: Any, source: str) -> tuple[int, str]:
    if isinstance(value, int) and not isinstance(value, bool):
        return _checked_value(str(value), source), _checked_name(key, source)
    if isinstance(value, str):
        return _checked_value(key, source), _checked_name(value, source)
    message = f"{source}: {key!r} is paired with {value!r}"
    raise InputError(message, 'pair a label value with a name, like {"1": "liver"}')


def _pair_from_text(part: str) -> tuple[int, str]:
    value, equals, name = part.partition("=")
    if not equals:
        message = f"--names: {part.strip()!r} is not a value and a name"
        raise InputError(message, "write it like 1=liver,2=spleen")
    return _checked_value(value, "--names"), _checked_name(name, "--names")


def _checked_value(text: str, source: str) -> int:
    stripped = text.strip()
    if stripped.isdecimal() and 1 <= int(stripped) <= MAX_LABEL_VALUE:
        return int(stripped)
    message = f"{source}: {stripped!r} is not a label value"
    raise InputError(message, f"use a whole number from 1 to {MAX_LABEL_VALUE}")


def _checked_name(text: str, source: str) -> str:
    name = " ".join(text.split())
    if name:
        return name
    message = f"{source}: an organ has an empty name"
    raise InputError(message, "write it like 1=liver,2=spleen")


def _unique(pairs: Iterable[tuple[int, str]], source: str) -> dict[int, str]:
    names: dict[int, str] = {}
    for value, name in pairs:
        if value in names:
            message = f"{source}: label value {value} is both {names[value]!r} and {name!r}"
            raise InputError(message, "give each value one name")
        if name in names.values():
            message = f"{source}: the name {name!r} is given twice"
            raise InputError(message, "give each organ its own name")
        names[value] = name
    return names


def name_key(name: str) -> str:
    """Return the words of a name in alphabetical order: the form in which names are compared."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = re.findall(r"[^\W_]+", apart.lower())
    plain = [_SAME_WORD.get(word, word) for word in words]
    key = " ".join(sorted(word for word in plain if word))
    return _SAME_ORGAN.get(key, key)


def _color_of(key: str) -> tuple[int, int, int]:
    digest = hashlib.sha256(key.encode("utf-8")).digest()
    hue = int.from_bytes(digest[:2], "big") / 65536
    saturation = 0.45 + 0.25 * digest[2] / 255
    brightness = 0.75 + 0.20 * digest[3] / 255
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, brightness)
    return round(255 * red), round(255 * green), round(255 * blue)


def _terminology(code: str, meaning: str, modifier: str) -> str:
    fields = (
        "Segmentation category and type - DICOM master list",
        "SCT^123037004^Anatomical Structure",
        f"SCT^{code}^{meaning}",
        modifier,
        "Anatomic codes - DICOM master list",
        _NO_CODE,
        _NO_CODE,
    )
    return "~".join(fields)


_SAME_WORD = {
    "l": "left",
    "lt": "left",
    "r": "right",
    "rt": "right",
    "oesophagus": "esophagus",
    "ivc": "inferior vena cava",
    "svc": "superior vena cava",
    "kidneys": "kidney",
    "lungs": "lung",
    "glands": "",
    "gland": "",
    "intestine": "bowel",
    "vertebra": "vertebrae",
}
_SAME_ORGAN = {
    "inferior vena cava": "cava inferior vena",
    "superior vena cava": "cava superior vena",
    "bladder gall": "gallbladder",
    "bladder": "bladder urinary",
    "brain stem": "brainstem",
    "bowel large": "colon",
}

# name, colour, SNOMED CT code of the structure, its meaning
_SINGLE = (
    ("spleen", (157, 108, 162), "78961009", "Spleen"),
    ("liver", (221, 130, 101), "10200004", "Liver"),
    ("stomach", (240, 170, 190), "69695003", "Stomach"),
    ("pancreas", (249, 196, 111), "15776009", "Pancreas"),
    ("aorta", (224, 60, 50), "15825003", "Aorta"),
    ("inferior_vena_cava", (0, 151, 206), "64131007", "Inferior vena cava"),
    ("superior_vena_cava", (70, 120, 190), "48345005", "Superior vena cava"),
    ("duodenum", (196, 214, 130), "38848004", "Duodenum"),
    ("spinal_cord", (244, 214, 49), "2748008", "Spinal cord"),
    ("gallbladder", (110, 160, 90), "28231008", "Gallbladder"),
    ("esophagus", (211, 171, 143), "32849002", "Esophagus"),
    ("trachea", (182, 228, 255), "44567001", "Trachea"),
    ("heart", (206, 90, 90), "80891009", "Heart"),
    ("urinary_bladder", (222, 184, 110), "89837001", "Urinary bladder"),
    ("prostate", (200, 130, 180), "41216001", "Prostate"),
    ("brain", (236, 226, 200), "12738006", "Brain"),
    ("brainstem", (110, 184, 200), "15926001", "Brainstem"),
    ("thyroid_gland", (62, 162, 114), "69748006", "Thyroid gland"),
    ("larynx", (150, 208, 188), "4596009", "Larynx"),
    ("mandible", (241, 214, 145), "91609006", "Mandible"),
    ("small_bowel", (205, 167, 142), "30315005", "Small Intestine"),
    ("colon", (168, 120, 90), "71854001", "Colon"),
    ("portal_vein", (60, 110, 220), "32764006", "Portal vein"),
    ("portal_vein_and_splenic_vein", (60, 110, 220), "110765007", "Portal vein and splenic vein"),
    ("pulmonary_artery", (90, 140, 230), "81040000", "Pulmonary artery"),
    ("sacrum", (212, 188, 102), "54735007", "Sacrum"),
    ("sternum", (244, 222, 170), "56873002", "Sternum"),
    ("skull", (241, 213, 144), "89546000", "Skull"),
)
# name without the side, colour on the right, on the left, code, meaning
_PAIRED = (
    ("kidney", (160, 78, 66), (196, 104, 60), "64033007", "Kidney"),
    ("adrenal_gland", (249, 186, 150), (236, 160, 120), "23451007", "Adrenal gland"),
    ("lung", (172, 200, 222), (146, 178, 206), "39607008", "Lung"),
    ("lung_upper_lobe", (172, 220, 214), (140, 200, 194), "45653009", "Upper lobe of lung"),
    ("lung_lower_lobe", (150, 190, 216), (122, 166, 196), "90572001", "Lower lobe of lung"),
    ("parotid_gland", (120, 190, 110), (170, 210, 90), "45289007", "Parotid gland"),
    ("femur", (255, 238, 170), (230, 210, 140), "71341001", "Femur"),
)
_VERTEBRAE = {
    "C1": "14806007",
    "C2": "39976000",
    "C3": "113205007",
    "C4": "5329002",
    "C5": "36978003",
    "C6": "36054005",
    "C7": "87391001",
    "T1": "64864005",
    "T2": "53733008",
    "T3": "1626008",
    "T4": "73071006",
    "T5": "56401006",
    "T6": "45296009",
    "T7": "62487009",
    "T8": "11068009",
    "T9": "82687006",
    "T10": "7610001",
    "T11": "12989004",
    "T12": "23215003",
    "L1": "66794005",
    "L2": "14293000",
    "L3": "36470004",
    "L4": "11994002",
    "L5": "49668003",
    "S1": "65985001",
}


def _known_organs() -> dict[str, tuple[tuple[int, int, int], str]]:
    known = {}
    for name, color, code, meaning in _SINGLE:
        known[name_key(name)] = (color, _terminology(code, meaning, _NO_CODE))
    for name, right, left, code, meaning in _PAIRED:
        known[name_key(name)] = (right, _terminology(code, meaning, _NO_CODE))
        known[name_key(f"{name}_right")] = (right, _terminology(code, meaning, _RIGHT))
        known[name_key(f"{name}_left")] = (left, _terminology(code, meaning, _LEFT))
    known[name_key("vertebrae")] = ((226, 202, 134), _terminology("51282000", "Vertebra", _NO_CODE))
    for place, (level, code) in enumerate(_VERTEBRAE.items()):
        # neighbours must be told apart: two shades of bone, one after the other
        color = ((226, 202, 134), (198, 170, 106))[place % 2]
        entry = (color, _terminology(code, f"{level} vertebra", _NO_CODE))
        known[name_key(f"vertebrae_{level}")] = entry
    return known


_KNOWN = _known_organs()
