"""Entry point of a checkout and of a Hugging Face Space: `python app.py` serves the page.

Pictures go to `outputs/` and LoRAs come from `loras/` of this folder, whatever the current directory is.
"""

import sys
from pathlib import Path

from controlnext.cli import app

if __name__ == "__main__":
    sys.exit(app.run(app.options(home=Path(__file__).resolve().parent)))
