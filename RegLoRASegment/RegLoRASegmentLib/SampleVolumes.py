"""CT volumes of Slicer's own test data, offered in the module Sample Data; nothing is downloaded here."""

from __future__ import annotations

CATEGORY = "RegLoRASegment"
_PLACE = "https://github.com/Slicer/SlicerTestingData/releases/download/SHA256/"

# Name -> (file name, SHA-256), as Slicer itself registers them.
SAMPLES = {
    "CTLiver": (
        "CTLiver.nrrd",
        "e16eae0ae6fefa858c5c11e58f0f1bb81834d81b7102e021571056324ef6f37e",
    ),
    "CTChest": (
        "CT-chest.nrrd",
        "4507b664690840abb6cb9af2d919377ffc4ef75b167cb6fd0f747befdb12e38e",
    ),
}


def registerSampleVolumes() -> None:
    """Register the volumes: abdomen first, as the tutorial uses it."""
    import SampleData

    for name, (fileName, digest) in SAMPLES.items():
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=f"{CATEGORY} {name}",
            uris=_PLACE + digest,
            fileNames=fileName,
            nodeNames=name,
            checksums=f"SHA256:{digest}",
            loadFileType="VolumeFile",
        )
