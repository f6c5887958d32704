"""`python -m flatlab`: the command line, also for launchers that start modules."""

import sys

from .cli import main

sys.exit(main())
