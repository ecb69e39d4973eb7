"""python -m nbbp: the command line."""

import sys

from nbbp.cli import main

sys.exit(main())
