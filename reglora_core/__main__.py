"""`python -m reglora_core` is the command `reglora`."""

import os
import sys

from reglora_core.cli import main

code = main()
sys.stdout.flush()
sys.stderr.flush()
# a worker's thread may still be reading its standard input; Python's own exit can wait for it
os._exit(code)
