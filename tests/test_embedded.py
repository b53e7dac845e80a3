"""The embedded server keeps its promises whoever dies, and whoever runs it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
import pytest

import ledger
from ledger.store import pg_programs
from ledger.store.embedded import EmbeddedServer, EmbeddedServerError

CHECKOUT = Path(ledger.__file__).parents[1]
NOBODY = 65534

# A user of the server in a process of its own: says its URL, leaves when its input ends.
CLIENT = """
import sys
from pathlib import Path
from ledger.store import pg_programs
from ledger.store.embedded import EmbeddedServer
if "no-namespaces" in sys.argv:
    pg_programs.namespaces_allowed = lambda: False
with EmbeddedServer.start(Path(sys.argv[1])) as server:
    print(server.superuser_url, flush=True)
    sys.stdin.read()
print("released", flush=True)
"""


class Client:
    """A child process that uses the server of a home."""

    def __init__(self, home: Path, *arguments: str, prefix: Sequence[str] = (), python: str = sys.executable):
        path = os.pathsep.join([str(CHECKOUT), *(entry for entry in sys.path if entry.endswith("site-packages"))])
        self.process = subprocess.Popen(
            [*prefix, python, "-P", "-c", CLIENT, str(home), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def url(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def leave(self) -> None:
        assert self.process.communicate(timeout=60)[0].strip() == "released"
        assert self.process.returncode == 0

    def die(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder for one server; whatever the test left running is stopped."""
    folder = tmp_path / "a home"
    yield folder
    if (folder / "pgdata").exists():
        EmbeddedServer.start(folder).release()


def is_up(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def postmaster(home: Path) -> int:
    return int((home / "pgdata" / "postmaster.pid").read_text().split()[0])


def wait_until_up(url: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_up(url):
        assert time.monotonic() < deadline, "the server did not come back"
        time.sleep(0.05)


def test_three_processes_share_one_server_and_the_last_one_out_stops_it(home: Path) -> None:
    clients = [Client(home) for _ in range(3)]
    urls = {client.url() for client in clients}
    assert len(urls) == 1
    (url,) = urls
    assert (home / "postgres.log").read_text().count("ready to accept connections") == 1
    for client in clients[:-1]:
        client.leave()
        assert is_up(url)
    clients[-1].leave()
    assert not is_up(url)
    assert not (home / "pgdata" / "postmaster.pid").exists(), "a clean shutdown"


def test_a_killed_client_does_not_count(home: Path) -> None:
    killed, last = Client(home), Client(home)
    url = killed.url()
    assert last.url() == url
    killed.die()
    assert is_up(url)
    last.leave()
    assert not is_up(url)


def test_when_every_client_was_killed_the_next_one_cleans_up(home: Path) -> None:
    killed = Client(home)
    url = killed.url()
    killed.die()
    assert is_up(url), "nobody was left to stop it"
    next_one = Client(home)
    assert next_one.url() == url
    next_one.leave()
    assert not is_up(url)


def test_a_killed_server_comes_back_with_every_committed_row(home: Path) -> None:
    with EmbeddedServer.start(home) as server:
        with psycopg.connect(server.superuser_url) as conn:
            conn.execute("CREATE TABLE kept AS SELECT generate_series(1, 5000) AS n")
        os.kill(postmaster(home), signal.SIGKILL)
        wait_until_up(server.superuser_url)
        with psycopg.connect(server.superuser_url) as conn:
            assert conn.execute("SELECT count(*) FROM kept").fetchone() == (5000,)


def test_a_server_killed_while_nobody_looks_starts_again(home: Path) -> None:
    client = Client(home)
    url = client.url()
    client.die()
    os.kill(postmaster(home), signal.SIGKILL)
    with EmbeddedServer.start(home) as server:
        assert server.superuser_url == url
        assert is_up(url)


def test_a_stale_pid_that_now_belongs_to_somebody_else_is_no_obstacle(home: Path) -> None:
    client = Client(home)
    client.url()
    client.die()
    os.kill(postmaster(home), signal.SIGKILL)
    pid_file = home / "pgdata" / "postmaster.pid"
    # A process of the same user, so that PostgreSQL's own test for life says yes.
    with subprocess.Popen(["sleep", "60"]) as stranger:
        lines = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        with EmbeddedServer.start(home) as server:
            assert is_up(server.superuser_url)
        assert stranger.poll() is None, "the stranger was left alone"
        stranger.kill()


def test_two_homes_never_meet(tmp_path: Path) -> None:
    with EmbeddedServer.start(tmp_path / "one") as one, EmbeddedServer.start(tmp_path / "two") as two:
        assert one.port != two.port
        with psycopg.connect(one.superuser_url) as conn:
            conn.execute("CREATE TABLE only_in_one (n integer)")
        with psycopg.connect(two.superuser_url) as conn:
            assert conn.execute("SELECT to_regclass('only_in_one')").fetchone() == (None,)
        assert not is_up(one.superuser_url.replace(str(one.port), str(two.port))), "another home's password"
    assert not is_up(one.superuser_url)
    assert not is_up(two.superuser_url)


def test_a_port_that_somebody_took_meanwhile_is_given_up(home: Path) -> None:
    with EmbeddedServer.start(home) as server:
        port = server.port
    with socket.create_server(("127.0.0.1", port)), EmbeddedServer.start(home) as server:
        assert server.port != port
        assert is_up(server.superuser_url)


def test_a_first_start_that_was_killed_is_done_again(home: Path) -> None:
    client = Client(home)
    deadline = time.monotonic() + 30
    while not (home / "pgdata.new" / "PG_VERSION").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    client.die()
    assert not (home / "pgdata").exists()
    with EmbeddedServer.start(home) as server:
        assert is_up(server.superuser_url)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_neither_stops_the_server_nor_keeps_it(home: Path) -> None:
    with EmbeddedServer.start(home) as server:
        child = os.fork()
        if child == 0:
            server.release()
            time.sleep(60)
            os._exit(0)
        assert is_up(server.superuser_url)
    assert not is_up(server.superuser_url)
    with EmbeddedServer.start(home) as again:
        assert is_up(again.superuser_url)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_the_server_is_durable_private_and_in_utc(server: EmbeddedServer) -> None:
    with psycopg.connect(server.superuser_url) as conn:
        wanted = {
            "fsync": "on",
            "full_page_writes": "on",
            "synchronous_commit": "on",
            "data_checksums": "on",
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "password_encryption": "scram-sha-256",
            "TimeZone": "UTC",
            "server_encoding": "UTF8",
        }
        found = {name: conn.execute("SELECT current_setting(%s)", (name,)).fetchone() for name in wanted}
        assert found == {name: (value,) for name, value in wanted.items()}
        methods = conn.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules").fetchall()
        assert methods == [("scram-sha-256",)]
    assert stat.S_IMODE((server.home / "secrets.json").stat().st_mode) == 0o600


def test_lost_passwords_are_said_to_be_lost(home: Path) -> None:
    EmbeddedServer.start(home).release()
    kept = (home / "secrets.json").rename(home / "kept")
    with pytest.raises(EmbeddedServerError, match=r"secrets\.json is missing"):
        EmbeddedServer.start(home)
    kept.rename(home / "secrets.json")


def test_a_named_installation_that_is_none_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_PG_BIN", str(home))
    with pytest.raises(EmbeddedServerError, match="LEDGER_PG_BIN"):
        EmbeddedServer.start(home)


# --- who runs it ---------------------------------------------------------------------------------------

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")


def python_for(prefix: Sequence[str]) -> str:
    """A Python with our libraries that the other user may run, or skip."""
    libraries = os.pathsep.join([str(CHECKOUT), *(entry for entry in sys.path if entry.endswith("site-packages"))])
    env = {**os.environ, "PYTHONPATH": libraries}
    # It must also be able to start itself again, as the server's launcher does.
    probe = "import ledger.store.embedded, subprocess as s, sys; s.run([sys.executable, '-c', ''], check=True)"
    for python in (sys.executable, "/usr/bin/python3"):
        asked = subprocess.run([*prefix, python, "-P", "-c", probe], env=env, cwd="/", capture_output=True, check=False)
        if asked.returncode == 0:
            return python
    pytest.skip("no Python here that another user may run")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can pass through (pytest's own are closed)."""
    folder = Path(tempfile.mkdtemp(prefix="ledger-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@as_root
def test_as_an_ordinary_user(open_folder: Path) -> None:
    if not shutil.which("setpriv"):
        pytest.skip("no setpriv")
    prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    python = python_for(prefix)
    home = open_folder / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    client = Client(home, prefix=prefix, python=python)
    url = client.url()
    assert is_up(url)
    # Root may join: it runs nothing as root, and leaves no file that the user could not open again.
    with EmbeddedServer.start(home) as server:
        assert server.superuser_url == url
    client.leave()
    assert not is_up(url)
    assert {path.stat().st_uid for path in (home, *home.iterdir())} == {NOBODY}
    again = Client(home, prefix=prefix, python=python)
    assert is_up(again.url())
    again.leave()


@as_root
def test_as_root_without_user_namespaces_it_runs_as_nobody(open_folder: Path) -> None:
    home = open_folder / "home"
    client = Client(home, "no-namespaces")
    assert is_up(client.url())
    assert Path(f"/proc/{postmaster(home)}").stat().st_uid == NOBODY
    client.leave()


@as_root
def test_as_nobody_where_nobody_may_pass_data_go_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    home = tmp_path / "home"
    client = Client(home, "no-namespaces")
    url = client.url()
    data = (home / "pgdata").resolve()
    try:
        assert is_up(url)
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700, "no folder was opened up"
        assert not data.is_relative_to(tmp_path)
        client.leave()
        again = Client(home, "no-namespaces")
        assert again.url() == url
        again.leave()
    finally:
        shutil.rmtree(data.parent)
        with contextlib.suppress(OSError):
            data.parent.parent.rmdir()


@as_root
def test_programs_that_nobody_cannot_reach_are_copied(tmp_path: Path, open_folder: Path) -> None:
    found = pg_programs.find_programs(os.environ)
    install = found.bin.parent
    closed = tmp_path / "closed" / install.parent.name
    shutil.copytree(install, closed / install.name, symlinks=True)
    libraries = install.parent.with_name(install.parent.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, closed.with_name(libraries.name))
    (tmp_path / "closed").chmod(0o700)
    programs = pg_programs.Programs(closed / install.name / "bin", found.major)
    nobody = pg_programs.RunAs("user", NOBODY, NOBODY)
    usable = pg_programs.runnable(programs, nobody, open_folder)
    assert usable.bin.is_relative_to(open_folder)
    assert nobody.run([usable["initdb"], "--version"]).returncode == 0
    assert pg_programs.runnable(programs, nobody, open_folder) == usable, "copied once"
