"""What Qt itself prints: passed on to stderr, without the offscreen platform's remark."""

import sys

from PySide6 import QtCore

_HARMLESS = ("This plugin does not support propagateSizeHints()",)


def show_qt_messages():
    def show(_kind, _context, message):
        if message not in _HARMLESS:
            sys.stderr.write(f"Qt: {message}\n")

    QtCore.qInstallMessageHandler(show)
