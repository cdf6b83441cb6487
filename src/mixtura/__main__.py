"""`python -m mixtura` is the command `mixtura`."""

import sys

from mixtura.cli import main

sys.exit(main())
