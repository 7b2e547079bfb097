"""Print the lowest versions that the requirement files allow, as constraints: `python .ci/lowest.py > lowest.txt`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BOUND = re.compile(r"([A-Za-z0-9_.-]+)[>=]=([0-9][^,;\s]*)")


def lowest() -> list[str]:
    """Return `name==version` for every direct requirement; all of them give a lowest version."""
    rows = [
        line.strip()
        for name in ("requirements.txt", "requirements-dev.txt")
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith(("#", "-"))
    ]
    found = [BOUND.match(row) for row in rows]
    return sorted({f"{bound[1]}=={bound[2]}" for bound in found if bound})


if __name__ == "__main__":
    sys.stdout.write("\n".join(lowest()) + "\n")
