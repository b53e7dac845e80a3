"""One embedded server for the whole session, and a fresh, fully migrated database for each test that asks."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql

from ledger import batches
from ledger.store import database as store
from ledger.store.embedded import EmbeddedServer
from ledger.store.migrate import migrate

if TYPE_CHECKING:
    from backup_world import World

# Random examples on every run (a failure prints how to reproduce it), few enough for a build.
settings.register_profile(
    "ci",
    derandomize=False,
    print_blob=True,
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("ci")


# Files with tests that take long come first, so that at the end both cores are busy with short ones.
LONG = (
    "test_bench", "test_import_interrupted", "test_payout_bank", "test_worker", "test_cli_processes", "test_real_year",
    "test_payout_crashes", "test_crashes", "test_concurrency", "test_state_machine", "test_run", "test_outage",
    "test_api_fuzz", "test_demo", "test_api_statements", "test_tampering",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Where Python is told to keep no compiled code beside the sources, the processes that tests start keep it in a
    folder of this run: else each compiles all of it once more, which is half of what it costs to start `ledger`."""
    if sys.dont_write_bytecode and not hasattr(config, "workerinput"):
        folder = tempfile.mkdtemp(prefix="ledger-compiled-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order in which both cores take files; within a file it stays as it is."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


def pytest_sessionfinish() -> None:
    """What the service froze (ledger/service.py) is looked at again: DuckDB would call it leaked, behind pytest's last
    line."""
    gc.unfreeze()
    gc.collect()


TEMPLATE = "ledger_template"
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is slow for a moment is no failure here: only tests of the patience itself (marked `impatient`)
    keep the one that a caller of the service gets."""
    if request.node.get_closest_marker("impatient") is None:
        monkeypatch.setattr(batches, "PATIENCE_SECONDS", 30.0)


@contextmanager
def fresh_database(server: EmbeddedServer, template: str | None) -> Iterator[str]:
    """Make a database (from a template, if named), yield its name and drop it, whoever is still connected."""
    name = f"test_{next(_numbers)}"
    store.make_database(server, name, template=template)
    try:
        yield name
    finally:
        with psycopg.connect(server.superuser_url, autocommit=True) as conn:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """The session's own PostgreSQL, with the three roles; `superuser_url` for what only a superuser may."""
    home = tmp_path_factory.mktemp("home")
    with EmbeddedServer.start(home) as running:
        store.make_roles(running)
        yield running
    # pytest keeps the folders of three sessions, and a busy session's WAL is gigabytes.
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def template(server: EmbeddedServer) -> str:
    """The name of a database with all migrations applied, to be cloned, never connected to."""
    store.make_database(server, TEMPLATE)
    migrate(server.url(TEMPLATE, "ledger_owner"))
    return TEMPLATE


@pytest.fixture(scope="session")
def backed_up(server: EmbeddedServer, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A shop with two backups. Tests restore copies of it elsewhere and leave it as it is."""
    from backup_world import make_world

    with make_world(server, template, tmp_path_factory.mktemp("backups")) as made:
        yield made


@pytest.fixture
def database(server: EmbeddedServer, template: str) -> Iterator[store.Database]:
    """A fresh database with all migrations applied, dropped afterwards."""
    with fresh_database(server, template) as name:
        yield store.urls(server, name)


@pytest.fixture
def empty_database(server: EmbeddedServer) -> Iterator[store.Database]:
    """A fresh database with nothing in it, dropped afterwards."""
    with fresh_database(server, None) as name:
        yield store.urls(server, name)
