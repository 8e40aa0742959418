"""`python -m attnpool` is the command line."""

import sys

from attnpool.cli import main

sys.exit(main())
