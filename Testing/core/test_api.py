"""The Python API: the same verbs as the command line, as often as one likes."""

from __future__ import annotations

from pathlib import Path

import phantom

import reglora_core
from reglora_core.events import Event

SLICES = (12, 17, 22, 27, 32, 37)


def test_no_verb_is_hidden_by_a_module() -> None:
    """An imported submodule becomes an attribute of its package, whatever stood there before."""
    modules = {path.stem for path in Path(reglora_core.__file__).parent.iterdir()}
    assert not modules & set(reglora_core.__all__)


def test_adapt_predict_and_evaluate_twice(
    tmp_path: Path, small_weights: Path, quick_fits: None
) -> None:
    image, labels = phantom.write_case(tmp_path, SLICES)
    reference = phantom.write(tmp_path / "reference.nrrd", phantom.image_of(phantom.body(0)[1]))
    model = str(small_weights)
    events: list[str] = []

    def listen(event: str, /, **fields: Event) -> None:
        events.append(event)

    for number in range(2):
        out = tmp_path / f"out {number}"
        names = phantom.NAMES
        adapted = reglora_core.adapt(
            image, labels, out, listen, names=names, model=model, method="head", annotated="auto"
        )
        again = reglora_core.predict(adapted.adapter, image, out / "again.seg.nrrd", model=model)
        assert reglora_core.evaluate(again.segmentation, reference).mean_dice > 0.7
        organs = reglora_core.load_adapter(adapted.adapter).organs
        assert {organ.name for organ in organs} == {"liver", "spleen"}
    assert events.count("preview") == 2
