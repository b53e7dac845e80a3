"""One embedded PostgreSQL's files: data, settings, passwords, port and log; and how its server is launched.

Nothing here decides when: `ledger.store.embedded` does, and calls this with the home's lock held.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from ledger.store import pg_programs
from ledger.store.pg_programs import EmbeddedServerError, Programs, RunAs

SUPERUSER = "postgres"
ROLES = (SUPERUSER, "ledger_owner", "ledger_app", "ledger_reader")
INITDB_LIMIT = 60.0  # seconds for an initdb left behind; it takes one
LOG_LIMIT = 10_000_000  # bytes; a longer log becomes postgres.log.1 at the next start

# Ours, rewritten at each start; for a machine of 2 cores and a few GiB. Durability is not for tuning.
SETTINGS = """\
# Written by the commission ledger at every start: changes here are lost. Put yours into postgresql.conf
# below the line that includes this file.
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
max_connections = 100
password_encryption = 'scram-sha-256'
timezone = 'UTC'
log_timezone = 'UTC'

fsync = on
full_page_writes = on
synchronous_commit = on
wal_compression = on
max_wal_size = '4GB'
checkpoint_timeout = '10min'

shared_buffers = '256MB'
effective_cache_size = '1GB'
work_mem = '16MB'
maintenance_work_mem = '128MB'
random_page_cost = 1.1
jit = off

tcp_keepalives_idle = 30
tcp_keepalives_interval = 5
tcp_keepalives_count = 3
log_checkpoints = off
log_line_prefix = '%m [%p] %q%u@%d '
"""


class Cluster:
    """The files of one home. `home` is made if missing; raises OSError when it cannot be."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.data = home / "pgdata"
        self._secrets: dict[str, Any] = {}

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1, chosen once and kept as long as nobody else takes it."""
        return int(self._secrets["port"])

    def password(self, role: str) -> str:
        """The password made for a role of ROLES; KeyError for any other."""
        return str(self._secrets["passwords"][role])

    def url(self, database: str, role: str) -> str:
        """A connection string for a role of ROLES; KeyError for any other."""
        return f"postgresql://{role}:{self.password(role)}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def prepare(self) -> None:
        """Read the passwords and the port, or make them and the data directory, the first time.

        Raises EmbeddedServerError when no PostgreSQL is found, or it cannot make its data directory.
        """
        self._load_secrets()
        if not self.data.exists():
            with open_lock(self.home / "server.lock") as lock:
                # Whoever was killed while making the data left an initdb behind, which has the lock.
                if not wait_for_lock(lock, INITDB_LIMIT):
                    raise EmbeddedServerError(f"{self.data} is gone, but its server still runs")
                self._create(lock)
                unlock(lock)

    def _load_secrets(self) -> None:
        path = self.home / "secrets.json"
        if path.exists():
            self._secrets = json.loads(path.read_text(encoding="utf-8"))
        elif self.data.exists():
            raise EmbeddedServerError(f"{path} is missing: restore it, without its passwords the data stay closed")
        else:
            passwords = {role: secrets.token_urlsafe(24) for role in ROLES}
            self._save_secrets({"port": _free_port(), "passwords": passwords})

    def _save_secrets(self, values: dict[str, Any]) -> None:
        _write(self.home / "secrets.json", json.dumps(values, indent=1))
        self._secrets = values

    def _create(self, server_lock: IO[bytes]) -> None:
        """Make the data directory under another name first, so that an interrupted attempt is never used."""
        programs, run_as = self.programs()
        draft = self._place(run_as) / "pgdata.new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        run_as.give(draft)
        word = draft.with_name("password.new")
        _write(word, self.password(SUPERUSER))
        run_as.give(word)
        locale = ["--no-locale", "--encoding=UTF8"]
        if programs.major >= 17:
            # The same order of strings on every machine; the C library's part of it stays out.
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        options = ["-U", SUPERUSER, f"--pwfile={word}", "--auth=scram-sha-256", "--data-checksums", *locale]
        made = run_as.run([programs["initdb"], "-D", str(draft), *options], keep_open=[server_lock.fileno()])
        word.unlink()
        if made.returncode != 0:
            raise EmbeddedServerError(f"initdb failed in {draft}:\n{made.stdout.strip()}")
        with open(draft / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.write("\ninclude 'ledger.conf'\n")
        final = draft.with_name("pgdata")
        draft.rename(final)
        if final != self.data:
            self.data.symlink_to(final)

    def launch(self, server_lock: IO[bytes]) -> None:
        """Start the server with the lock in its hands; it may still refuse, see the log."""
        programs, run_as = self.programs()
        if not _port_is_free(self.port):
            self._save_secrets({**self._secrets, "port": _free_port()})
        data = self.data.resolve()
        _write(data / "ledger.conf", SETTINGS.format(port=self.port))
        run_as.give(data / "ledger.conf")
        env = pg_programs.clean_environment()
        if (stale := self.recorded_pid()) is not None:
            # The lock says that this postmaster is gone, but its pid may belong to somebody else by now,
            # which PostgreSQL would take for a live server. As a "grandparent" its pid is ignored.
            env["PG_GRANDPARENT_PID"] = str(stale)
        log = self.home / "postgres.log"
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_name("postgres.log.1"))
        command = run_as.command([programs["postgres"], "-D", str(data)], detach=True)
        with open(log, "ab", opener=_private) as output:
            # Whoever has this descriptor has the lock: ours is closed, not unlocked; theirs ends with them.
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, cwd="/",
                pass_fds=[server_lock.fileno()], check=False,
            )  # fmt: skip
        if done.returncode != 0:
            raise EmbeddedServerError(f"{programs['postgres']} cannot run:\n{self.log_tail()}")

    def programs(self) -> tuple[Programs, RunAs]:
        """The programs for these data (or for new ones) and who runs them."""
        version = self.data / "PG_VERSION"
        made_by = int(version.read_text(encoding="ascii")) if version.exists() else None
        owner = self.data.stat().st_uid if self.data.exists() else None
        if owner is None and os.geteuid() == 0:
            owner = self.home.stat().st_uid or None  # root working in somebody's folder: it stays theirs
        run_as = pg_programs.who_runs(owner)
        programs = pg_programs.find_programs(os.environ, made_by)
        return pg_programs.runnable(programs, run_as, self._place(run_as)), run_as

    def _place(self, run_as: RunAs) -> Path:
        """Where data are made: the home, or (another user must work there and cannot get in) /var/lib."""
        if run_as.how != "user" or run_as.uid == self.home.stat().st_uid:
            return self.home
        if pg_programs.reachable_by_others(self.home):
            return self.home
        elsewhere = Path("/var/lib/commission-ledger") / quote(str(self.home), safe="")
        for folder in (elsewhere.parent, elsewhere):
            if not folder.exists():
                folder.mkdir()
                folder.chmod(0o755)  # ours, and root's umask may have made it private
        return elsewhere

    def recorded_pid(self) -> int | None:
        """The postmaster's pid as it wrote it down; it proves nothing."""
        try:
            return int((self.data / "postmaster.pid").read_text(encoding="utf-8").split()[0])
        except (OSError, ValueError, IndexError):
            return None

    def log_tail(self) -> str:
        """The log's last lines, for a message."""
        try:
            text = (self.home / "postgres.log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return "(no log)"
        return "\n".join(text.splitlines()[-12:])


# --- files, locks, ports -------------------------------------------------------------------------------


def _private(path: str, flags: int) -> int:
    """Open with mode 0600; as root in somebody's folder, as that somebody's file."""
    descriptor = os.open(path, flags, 0o600)
    if os.geteuid() == 0:
        owner = Path(path).parent.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def _write(path: Path, text: str) -> None:
    """Replace a private file in one step."""
    draft = path.with_name(path.name + ".tmp")
    draft.unlink(missing_ok=True)
    with open(draft, "x", encoding="utf-8", opener=_private) as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    draft.replace(path)


def open_lock(path: Path) -> IO[bytes]:
    """Open a lock file; a process that ends, in any way, lets go of its locks."""
    return open(path, "ab", opener=_private)


def try_lock(handle: IO[bytes]) -> bool:
    """Take the lock exclusively, now or not at all; True if taken."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for_lock(handle: IO[bytes], seconds: float) -> bool:
    """Take the lock exclusively, waiting up to `seconds`; True if taken."""
    deadline = time.monotonic() + seconds
    while not try_lock(handle):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def unlock(handle: IO[bytes]) -> None:
    """Let go of a lock. Closing the file is not enough: a child that we forked meanwhile has it open too."""
    fcntl.flock(handle, fcntl.LOCK_UN)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As PostgreSQL does: connections of a previous server in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
