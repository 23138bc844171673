"""Stand-in of slicer.i18n. Not modelled: translation files; texts stay English."""

from pathlib import Path


def tr(text):
    return text


def translate(_context, text):
    return text


def getContext(sourceFile):
    return Path(sourceFile).stem
