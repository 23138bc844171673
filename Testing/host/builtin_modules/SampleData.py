"""Stand-in of Slicer's module SampleData: records the data sets, downloads nothing."""

import slicer


class SampleDataSource:
    """What a module has registered, under the names that Slicer gives it."""

    def __init__(self, **options):
        vars(self).update(options)


class SampleDataLogic:
    @staticmethod
    def registerCustomSampleDataSource(  # noqa: PLR0913, PLR0917 - Slicer's own signature
        category="Custom",
        sampleName=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileTypes=None,
        loadFiles=None,
        loadFileProperties=None,
        checksums=None,
        loadFileType=None,
    ):
        options = dict(locals())
        if not hasattr(slicer.modules, "sampleDataSources"):
            slicer.modules.sampleDataSources = {}
        source = SampleDataSource(**options)
        slicer.modules.sampleDataSources.setdefault(category, []).append(source)

    def downloadSample(self, name):
        message = f"the test host downloads no sample data: {name}"
        raise NotImplementedError(message)
