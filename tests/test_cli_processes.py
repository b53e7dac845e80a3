"""The `ledger` command as processes: signals, terminals, pipes, and homes of their own."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from import_support import MAPPING, ROOT, L, shop, write
from support import MASTER_KEY, PROGRAM, open_ledger, owner

from ledger.store.database import Database

COMMAND = [sys.executable, "-m", "ledger.cli"]


def import_line(path: Path) -> list[str]:
    """The import's arguments."""
    line = ["import", "orders", str(path), "-p", PROGRAM, "--offer", "shoes", "--mapping", str(MAPPING)]
    return [*line, "--enrol-affiliates", "--json"]


def subprocess_env(**more: str) -> dict[str, str]:
    """A process of its own."""
    env = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "LEDGER_HOME")}
    return {**env, "PYTHONPATH": str(ROOT), "LEDGER_MASTER_KEY": MASTER_KEY.hex(), "LEDGER_OPERATOR": "olga", **more}


ORDERS = 6_000


def many_orders(path: Path) -> Path:
    """Enough orders to be interrupted in."""
    return write(path, (L(f"{n:06}", "A", 1, country=f"Partner {n % 5}") for n in range(ORDERS)))


def on_a_terminal(line: list[str], env: dict[str, str], until: bytes) -> tuple[subprocess.Popen[bytes], bytes]:
    """A verb whose stderr is a terminal, and what it showed there until something appeared."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *line],
        env=env,
        stdout=subprocess.PIPE,
        stderr=theirs,
        # whoever started the tests in the background made them deaf to Ctrl-C, which a terminal does not
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(theirs)
    seen = b""
    try:
        while until not in seen:
            seen += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        while chunk := os.read(ours, 4096):
            seen += chunk
    except OSError:
        pass  # a terminal whose last writer has gone
    finally:
        os.close(ours)
    return process, seen


def test_progress_shows_on_a_terminal_and_ctrl_c_says_how_to_go_on(tmp_path: Path, database: Database) -> None:
    """Interrupted while recording: exit code 130, and the same command brings in the rest, silent in a pipe."""
    path = many_orders(tmp_path / "big.csv")
    env = subprocess_env(DATABASE_URL=database.app_url)
    with open_ledger(database) as ledger:
        shop(ledger)
    with owner(database) as conn:  # a machine that is never quicker than the one who presses Ctrl-C
        conn.execute(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_catalog.pg_sleep(1.5); RETURN NULL; END'"
        )
        conn.execute("CREATE TRIGGER slow AFTER INSERT ON book_events EXECUTE FUNCTION wait()")
    process, seen = on_a_terminal(import_line(path), env, b"recorded: ")
    assert process.wait(timeout=60) == 130
    assert b"lines read: " in seen
    assert b"The same command again goes on" in seen
    assert process.stdout is not None
    assert process.stdout.read() == b""
    with owner(database) as conn:
        conn.execute("DROP TRIGGER slow ON book_events")
    for unchanged in (False, True):
        done = subprocess.run([*COMMAND, *import_line(path)], env=env, capture_output=True, text=True, check=True)
        totals = json.loads(done.stdout)
        assert (totals["orders"], totals["unchanged"]) == (ORDERS, unchanged)
        assert done.stderr == ""


@pytest.fixture(scope="module")
def other_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that the tests here share; whichever comes first makes it."""
    return tmp_path_factory.mktemp("other") / "home"


def env_of_home(home: Path) -> dict[str, str]:
    """A process with the embedded server in a home, and the master key there."""
    env = subprocess_env(LEDGER_HOME=str(home))
    env.pop("LEDGER_MASTER_KEY")
    return env


def test_serve_answers_until_it_is_stopped(tmp_path: Path, other_home: Path) -> None:
    """Migrated and ready on a fresh home, and again on one with data; stopped by SIGTERM or Ctrl-C it ends well and
    stops its server."""
    for how in (signal.SIGTERM, signal.SIGINT):
        port = 18000 + os.getpid() % 1000 + how
        line = [*COMMAND, "serve", "--port", str(port)]
        with subprocess.Popen(
            line, env=env_of_home(other_home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path
        ) as process:
            deadline = time.monotonic() + 60
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                        assert answer.status == 200
                        break
                except OSError:
                    assert process.poll() is None, process.stdout and process.stdout.read().decode()
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            process.send_signal(how)
            assert process.wait(timeout=60) == 0, how
        assert not (other_home / "pgdata" / "postmaster.pid").exists()


def test_a_fresh_home_needs_one_command_and_leaves_no_server_behind(tmp_path: Path, other_home: Path) -> None:
    """Without DATABASE_URL: the server is made, migrated, used and stopped; two homes do not see each other."""
    home = tmp_path / "home"

    def run(where: Path, *args: str) -> subprocess.CompletedProcess[str]:
        line = [*COMMAND, *args]
        return subprocess.run(
            line, env=env_of_home(where), capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path
        )

    opened = run(home, "program", "open", "shop", "--currency", "GBP")
    assert opened.returncode == 0, opened.stderr
    assert not (home / "pgdata" / "postmaster.pid").exists()
    assert (home / "master.key").stat().st_mode & 0o777 == 0o600
    assert run(home, "balances", "-p", "shop", "--json").stdout == "[]\n"
    elsewhere = run(other_home, "balances", "-p", "shop")
    assert elsewhere.returncode == 1
    assert "there is no such program" in elsewhere.stderr
