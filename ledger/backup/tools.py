"""pg_dump and pg_restore: which ones fit a server, and running them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ledger.backup.manifest import BackupRefused
from ledger.store import pg_programs

LOOK_SECONDS = 0.2  # between two looks at a tool's progress
END_SECONDS = 10.0  # for a tool that was told to stop


@dataclass(frozen=True)
class Tool:
    """A program and its version, such as '18.6'."""

    path: Path
    version: str

    @property
    def major(self) -> int:
        """15, 16, …"""
        return int(self.version.split(".")[0])


def find(name: str, env: Mapping[str, str], server_major: int, at_least: int = 0) -> Tool:
    """The tool of the server's own major version, else the next newer one.

    An older one than the server is never taken (pg_dump would miss what it does not know), nor one older than
    `at_least`. LEDGER_PG_BIN, where set, is the only place. Raises BackupRefused, naming what was found.
    """
    wanted = max(server_major, at_least)
    found = list(_installed(name, env))
    fitting = [tool for tool in found if tool.major >= wanted]
    if not fitting:
        seen = ", ".join(f"{tool.version} in {tool.path.parent}" for tool in found) or "none"
        raise BackupRefused(
            f"{name} {wanted} or newer is needed (found: {seen}); set LEDGER_PG_BIN to the bin folder of a PostgreSQL"
            f" {wanted}"
        )
    return min(fitting, key=lambda tool: tool.major)


def _installed(name: str, env: Mapping[str, str]) -> Iterator[Tool]:
    folders = list(pg_programs.candidates(env))
    if not env.get("LEDGER_PG_BIN") and (on_path := shutil.which(name)):
        folders.append(Path(on_path).parent)
    for folder in dict.fromkeys(folders):
        path = folder / name
        with suppress(OSError, subprocess.SubprocessError):
            asked = [str(path), "--version"]
            answer = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True).stdout
            if version := re.search(r"\(PostgreSQL\) (\d+[.\w]*)", answer):
                yield Tool(path, version[1])


def session_name(name: str) -> str:
    """What the server calls a tool's sessions."""
    return f"ledger-{name}"


def run(
    tool: Tool, url: str, arguments: Sequence[str], watch: Callable[[], None], keep_open: Sequence[int] = ()
) -> None:
    """Run a tool on a database to its end; `watch` is called meanwhile. It ends with us, unless we are killed; it
    inherits the descriptors `keep_open`. Raises BackupRefused with its own first words when it fails."""
    settings = conninfo_to_dict(url)
    env = {**os.environ, "LC_ALL": "C"}
    if password := settings.pop("password", None):
        env["PGPASSWORD"] = str(password)  # a command line is there for everyone to read
    place = make_conninfo("", **{**settings, "application_name": session_name(tool.path.name)})
    command = [str(tool.path), *arguments, f"--dbname={place}"]
    process: subprocess.Popen[bytes] | None = None
    with tempfile.TemporaryFile() as said:
        try:
            with _signals_later():
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=env, pass_fds=tuple(keep_open)
                )
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(LOOK_SECONDS)
                watch()
        finally:
            if process is not None:
                _end(process)
        if process.returncode != 0:
            said.seek(0)
            raise BackupRefused(f"{tool.path.name} failed: {_first_error(said.read(20_000).decode(errors='replace'))}")


@contextmanager
def _signals_later() -> Iterator[None]:
    """Ctrl-C and SIGTERM come at the end of the block: in the middle of starting a child, nobody would know of it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled in the main thread only
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for one in came:
            signal.raise_signal(one)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _first_error(text: str) -> str:
    """The line that says what is wrong; the lines below it may quote rows."""
    lines = text.splitlines()
    return next((line for line in lines if "error" in line.lower()), lines[0] if lines else "it said nothing")
