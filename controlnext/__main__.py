"""`python -m controlnext`."""

import sys

from controlnext.cli.main import main

sys.exit(main())
