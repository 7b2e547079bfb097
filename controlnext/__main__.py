"""`python -m controlnext`."""

import sys

from controlnext.cli.program import main

sys.exit(main())
