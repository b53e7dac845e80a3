"""Run a verb of the `ledger` command and say how much memory its process ever had: `python -m benchmarks.peak VERB …`
prints the bytes as the last line of standard error."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

from ledger.cli import main as ledger


def peak_bytes() -> int:
    """The most memory that this process had at a time (resident set)."""
    try:
        # Not getrusage where this exists: on Linux a child begins with its parent's peak.
        found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    try:
        ledger(sys.argv[1:])
    finally:
        print(peak_bytes(), file=sys.stderr)
