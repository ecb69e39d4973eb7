"""python -m nbbp.cli."""

import sys

from nbbp.cli import main

sys.exit(main())
