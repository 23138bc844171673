"""Finds what the real PythonQt would refuse, in source that the test host may not have run."""
