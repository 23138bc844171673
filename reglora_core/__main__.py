"""`python -m reglora_core` is the command `reglora`."""

import sys

from reglora_core.cli import main

sys.exit(main())
