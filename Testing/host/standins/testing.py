"""Stand-in of slicer.testing, which ctest's command lines call."""

import sys
import unittest


def exitSuccess():
    sys.exit(0)


def exitFailure(message=""):
    print(message)  # noqa: T201 - Slicer's own prints it too
    sys.exit(1)


def runUnitTest(path, testname):
    """Run the tests of the module `testname`, found in the folder (or folders) `path`."""
    sys.path.extend([path] if isinstance(path, str) else path)
    suite = unittest.TestLoader().loadTestsFromName(testname)
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    if result.wasSuccessful():
        exitSuccess()
    exitFailure("Test failed")
