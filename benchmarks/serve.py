"""Serve the application under load as `ledger serve` does with one worker: `python -m benchmarks.serve MODE PORT`.

coalesced    as in production
alone        each command in a commit of its own
validation   authenticated, decoded and checked, and answered without being executed
"""

from __future__ import annotations

import multiprocessing
import os
import sys

MODE = "LEDGER_BENCH_MODE"
MODES = ("coalesced", "alone", "validation")


def main(mode: str, port: int) -> None:
    """Serve until stopped."""
    from granian import Granian
    from granian.constants import Interfaces

    assert mode in MODES
    os.environ[MODE] = mode
    # as the serve verb does: forked workers would inherit connections and locks
    multiprocessing.set_start_method("spawn", force=True)
    # No setting that `ledger serve` does not have, but the factory.
    Granian(
        "benchmarks.bench_app:make_app",
        factory=True,
        address="127.0.0.1",
        port=port,
        interface=Interfaces.WSGI,
        workers=1,
        respawn_failed_workers=True,
    ).serve()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
