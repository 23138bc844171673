"""The parts of the module RegLoRASegment, one noun a file.

Files that touch MRML (Grid, SceneExport, SceneImport, AnnotatedSlices, Plots) import neither qt nor
slicer.app, so that they are tested on a scene without the application.
"""
