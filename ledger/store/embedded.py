"""The embedded PostgreSQL: a real server on loopback that comes with the checkout and needs no installation.

A *home* is a folder with one server's data, port, passwords and log. Any number of processes use a home
together: the first one starts the server, the last one out stops it. Three files are locked with `flock`,
which the kernel undoes whenever a process ends, however it ends; so no count and no pid file can go stale:

    turn.lock    exclusive  while somebody starts or stops the server
    users.lock   shared     by everybody who uses it; the last one out can have it exclusively
    server.lock  exclusive  inherited by all the server's processes: free means that none of them is left

Whether the server is *up* is a different question, with one answer: a connection succeeds.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

import psycopg

from ledger.store.pg_cluster import SUPERUSER, Cluster, open_lock, try_lock, unlock, wait_for_lock
from ledger.store.pg_programs import EmbeddedServerError

__all__ = ["EmbeddedServer", "EmbeddedServerError", "default_home"]

START_LIMIT = 120.0  # seconds; crash recovery of a busy server has been seen to take 36
STOP_LIMIT = 60.0  # seconds for a fast shutdown, which writes a checkpoint
LAUNCHES = 5  # tries, when somebody takes the port between our looking and the server's

log = logging.getLogger(__name__)


def default_home() -> Path:
    """LEDGER_HOME, else `var/` in the checkout, else (checkout not writable) the user's data folder."""
    if named := os.environ.get("LEDGER_HOME"):
        return Path(named).absolute()
    checkout = Path(__file__).resolve().parents[2]
    beside = checkout / "var"
    if os.access(beside if beside.exists() else checkout, os.W_OK):
        return beside
    # Not a cache folder: those may be emptied by anyone, and this is somebody's ledger.
    return Path("~/.local/share/commission-ledger").expanduser()


class EmbeddedServer:
    """One process's use of a home's server; a context manager that releases it. Made by `start`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._pid = os.getpid()
        self._users: IO[bytes] | None = None
        self._watcher: threading.Thread | None = None

    @classmethod
    def start(cls, home: Path | None = None) -> EmbeddedServer:
        """Join the server of `home` (default: `default_home()`), making and starting it if need be.

        Takes 0.1 s when it runs or stopped cleanly, about 1 s the first time, at most START_LIMIT seconds.
        Until released, the server is started again if it dies. Raises EmbeddedServerError with the server's
        own last words when it cannot be found, made or started.
        """
        folder = (home or default_home()).absolute()
        try:
            server = cls(Cluster(folder))
            server._join()
        except OSError as problem:
            hint = "LEDGER_HOME can name another folder"
            raise EmbeddedServerError(f"cannot use {folder}: {problem}; {hint}") from problem
        atexit.register(server.release)
        server._watcher = threading.Thread(target=server._watch, name="embedded-postgres", daemon=True)
        server._watcher.start()
        return server

    def release(self) -> None:
        """Stop using the server; the last user stops it. Does nothing a second time, or in a forked child."""
        atexit.unregister(self.release)
        if self._users is None or self._pid != os.getpid():
            return
        stopped = False
        with self._turn():
            try:
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # somebody else still uses it
            else:
                self._shut_down()
                stopped = True
            finally:
                self._leave()
        if stopped and self._watcher is not None:
            # It wakes up and looks into the home once more, which our caller may be about to delete.
            self._watcher.join(5)

    @property
    def home(self) -> Path:
        """The folder with everything that is this server's."""
        return self._cluster.home

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1."""
        return self._cluster.port

    @property
    def superuser_url(self) -> str:
        """The superuser's connection string, for the maintenance database `postgres`."""
        return self.url("postgres", SUPERUSER)

    def url(self, database: str, role: str) -> str:
        """A connection string for `postgres`, `ledger_owner`, `ledger_app`, `ledger_reader`."""
        return self._cluster.url(database, role)

    def program(self, name: str) -> str:
        """The path of one of this PostgreSQL's programs, such as `pg_dump` or `psql`; it may not exist."""
        return self._cluster.programs()[0][name]

    def password(self, role: str) -> str:
        """The password that was made for the role; KeyError for an unknown one."""
        return self._cluster.password(role)

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    # --- coming and going ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Be the only one who starts or stops this home's server."""
        with open_lock(self.home / "turn.lock") as lock:
            if not wait_for_lock(lock, START_LIMIT + STOP_LIMIT):
                raise EmbeddedServerError(f"another process has been at work in {self.home} for minutes")
            try:
                yield
            finally:
                unlock(lock)

    def _join(self) -> None:
        with self._turn():
            self._users = open_lock(self.home / "users.lock")
            try:
                fcntl.flock(self._users, fcntl.LOCK_SH)
                self._cluster.prepare()
                self._bring_up()
            except BaseException:
                self._leave()
                raise

    def _leave(self) -> None:
        if self._users is not None:
            unlock(self._users)
            self._users.close()
            self._users = None

    def _watch(self) -> None:
        """Start the server again whenever it dies under us (a kill, the out-of-memory killer)."""
        while True:
            with open_lock(self.home / "server.lock") as lock:
                # Sleeps in the kernel until no process of the server is left.
                fcntl.flock(lock, fcntl.LOCK_SH)
                unlock(lock)
            try:
                with self._turn():
                    if self._users is None:
                        return
                    self._bring_up()
            except (EmbeddedServerError, OSError) as problem:
                log.error("the embedded PostgreSQL cannot be started again: %s", problem)
                time.sleep(1)

    # --- up and down ---------------------------------------------------------------------------------

    def _answers(self) -> bool:
        """True if a connection succeeds, which is what being up means."""
        try:
            psycopg.connect(self.superuser_url, connect_timeout=2).close()
        except psycopg.OperationalError as problem:
            # Full is up; anything else (refused, starting, stopping, another home's server) is not.
            return "too many clients" in str(problem)
        return True

    def _bring_up(self) -> None:
        deadline = time.monotonic() + START_LIMIT
        launched = 0
        while not self._answers():
            with open_lock(self.home / "server.lock") as lock:
                if try_lock(lock):
                    # No process of it is left: never started, stopped, crashed, or gave up after our launch.
                    if launched and not self._lost_its_port(launched):
                        raise EmbeddedServerError(f"PostgreSQL did not start:\n{self._cluster.log_tail()}")
                    self._cluster.launch(lock)
                    launched += 1
            if time.monotonic() > deadline:
                words = self._cluster.log_tail()
                raise EmbeddedServerError(f"no connection within {START_LIMIT:.0f} s:\n{words}")
            time.sleep(0.03)

    def _lost_its_port(self, launched: int) -> bool:
        return launched < LAUNCHES and "Address already in use" in self._cluster.log_tail()

    def _shut_down(self) -> None:
        """Ask for a fast shutdown and wait until every process of the server is gone."""
        deadline = time.monotonic() + STOP_LIMIT
        asked = False
        with open_lock(self.home / "server.lock") as lock:
            while not try_lock(lock):
                pid = self._cluster.recorded_pid()
                if not asked and pid is not None and self._answers():
                    # It answers, so the pid in its file is its own.
                    os.kill(pid, signal.SIGINT)
                    asked = True
                if time.monotonic() > deadline:
                    words = self._cluster.log_tail()
                    raise EmbeddedServerError(f"still running after {STOP_LIMIT:.0f} s:\n{words}")
                time.sleep(0.02)
            unlock(lock)
