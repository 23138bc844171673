"""RegLoRASegment: paint organs on a few slices, get the volume, keep an adapter for the next one.

This file holds the four classes that Slicer looks for; what they do is in RegLoRASegmentLib.
"""

import sys
from pathlib import Path

from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleTest

# Run from the source tree, reglora_core lies beside the module's folder; installed, in it.
_ROOT = Path(__file__).resolve().parents[1]
if (_ROOT / "reglora_core" / "__init__.py").is_file() and str(_ROOT) not in sys.path:
    sys.path.insert(0, str(_ROOT))

from RegLoRASegmentLib.Logic import Logic  # noqa: E402
from RegLoRASegmentLib.SampleVolumes import registerSampleVolumes  # noqa: E402
from RegLoRASegmentLib.SelfTest import SelfTest  # noqa: E402
from RegLoRASegmentLib.Widget import Widget  # noqa: E402


class RegLoRASegment(ScriptedLoadableModule):
    """What the module is called and where it is found."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("RegLoRA Segment")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Segmentations", "Volumes", "Plots"]
        self.parent.contributors = [_("The RegLoRASegment contributors")]
        self.parent.helpText = _(
            "Paint organs on a few slices, press Adapt, and get them in the whole volume. The adapter "
            "that is learned segments the same organs in the next volumes with no painting. Everything "
            "is computed on this computer; nothing is sent anywhere."
        )
        self.parent.helpText += self.getDefaultModuleDocumentationLink()
        self.parent.acknowledgementText = _(
            "Few-slice adaptation by low-rank updates whose rank is found while they are learned."
        )
        import slicer

        slicer.app.connect("startupCompleted()", registerSampleVolumes)


class RegLoRASegmentWidget(Widget):
    """The panel."""


class RegLoRASegmentLogic(Logic):
    __doc__ = Logic.__doc__


class RegLoRASegmentTest(SelfTest, ScriptedLoadableModuleTest):
    """The self-test: small, offline, with a stand-in of the worker; see RegLoRASegmentLib.SelfTest."""
