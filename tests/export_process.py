"""A process that exports and is killed (SIGKILL, nothing of it runs on) right before one of its operations on files."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

WATCHED = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")


def forked(work: Callable[[], object]) -> int:
    """Run something in a child. Returns its exit code, 1 if it raised, below zero for the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_before(number: int, root: Path) -> Callable[[], int]:
    """From now on count what this process does to files below root, and to the disk; be killed before the number-th
    of it. Returns what says how many there were."""
    done = 0
    real_fsync = os.fsync

    def count() -> None:
        nonlocal done
        done += 1
        if done == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in WATCHED and str(arguments[0]).startswith(str(root)):
            count()

    def fsync(descriptor: int) -> None:
        count()
        real_fsync(descriptor)

    sys.addaudithook(watch)
    os.fsync = fsync  # type: ignore[assignment]
    return lambda: done


def limit_files(size: int) -> None:
    """Let no file of this process become larger: a disk that is full, bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
