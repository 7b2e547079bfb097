"""`python -m controlnext`."""

import sys

from controlnext.cli import main

sys.exit(main())
