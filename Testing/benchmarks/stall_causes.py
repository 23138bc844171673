"""What the event loop was busy with during a stall: calls of the panel, and drawing."""

import functools
import importlib
import time

_MOST = 0.6  # of a stall: by the call that is named as its cause
WATCHED = (
    ("RegLoRASegmentLib.Steps", "Steps._turn"),
    ("RegLoRASegmentLib.SceneImport", "SceneImport._write"),
    ("RegLoRASegmentLib.SceneImport", "Preview.show"),
    ("RegLoRASegmentLib.SceneImport", "Preview._updateDisplay"),
    ("RegLoRASegmentLib.AnnotatedSlices", "AnnotatedSlices.update"),
    ("RegLoRASegmentLib.AnnotatePanel", "AnnotatePanel.saveStateForUndo"),
    ("RegLoRASegmentLib.AnnotatePanel", "AnnotatePanel.current"),
    ("RegLoRASegmentLib.AnnotatePanel", "AnnotatePanel._fill"),
    ("RegLoRASegmentLib.RunPanel", "RunPanel.onAdapt"),
    ("RegLoRASegmentLib.RunPanel", "RunPanel.update"),
    ("RegLoRASegmentLib.ResultPanel", "ResultPanel._fillTable"),
    ("RegLoRASegmentLib.Plots", "Plots.update"),
    ("RegLoRASegmentLib.Run", "Run._onEvent"),
    ("RegLoRASegmentLib.Run", "Run._onEnd"),
    ("RegLoRASegmentLib.CoreProcess", "CoreProcess.start"),
    ("slicerhost.view_canvas", "ViewCanvas.renderNow"),
)
_NAMES = {"ViewCanvas.renderNow": "drawing one view"}


class StallCauses:
    """Notes when watched calls begin and end, once watch() was called."""

    def __init__(self):
        self._calls = []  # (begin, end, name); inner calls come before the outer ones

    def watch(self):
        for module, path in WATCHED:
            owner, name = path.split(".")
            owner = getattr(importlib.import_module(module), owner)
            setattr(owner, name, self._noting(getattr(owner, name), path))

    def of(self, meter):
        """Return the innermost call that took most of a meter's longest stall, and its seconds."""
        begin, end = meter.longest_span
        best = None
        for first, last, name in self._calls:
            shared = min(end, last) - max(begin, first)
            if shared >= _MOST * (end - begin):
                return {"s": round(end - begin, 3), "step": name}
            if shared > 0 and (best is None or shared > best[0]):
                best = (shared, name)
        name = f"among others {best[1]}" if best else "nothing that is watched"
        return {"s": round(end - begin, 3), "step": name}

    def longest(self, name):
        """Return the longest call of a name, in seconds."""
        return max(
            (last - first for first, last, known in self._calls if known == name), default=0.0
        )

    def _noting(self, function, path):
        @functools.wraps(function)
        def noted(*arguments, **options):
            name = _NAMES.get(path, path)
            if path == "Steps._turn":
                name = arguments[0]._generator.__qualname__.replace(".<locals>", "")
            first = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self._calls.append((first, time.perf_counter(), name))

        return noted
