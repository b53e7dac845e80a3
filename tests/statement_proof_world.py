"""A month of an affiliate with its statement, proven, and both verifiers of the proof."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from conftest import fresh_database
from proof_world import ORIGIN, Forger, key_of, lively_firm, proof
from statement_world import Firm
from support import T0, Clock, open_ledger

from ledger.audit.keys import SigningKeys
from ledger.projections import periods
from ledger.store import database as store
from ledger.store.embedded import EmbeddedServer

ONE_PAGE = Path(__file__).parent.parent / "docs" / "verify_statement.py"
KEY = str(key_of())
OTHERS = SigningKeys([b"\x08" * 32], ORIGIN)
Statement = tuple[str, str, int]  # affiliate id, period, version


def load_one_page() -> ModuleType:
    """The one-page verifier, as a module."""
    spec = importlib.util.spec_from_file_location("verify_statement", ONE_PAGE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


one_page = load_one_page()


class World(NamedTuple):
    """A firm, every statement's proof, and its books for a forger."""

    firm: Firm
    files: dict[Statement, bytes]
    books: Forger

    def file(self, affiliate_id: str = "ada", period: str = "2026-02", version: int = 2) -> dict[str, Any]:
        """A proof to play with."""
        found: dict[str, Any] = json.loads(self.files[affiliate_id, period, version])
        return found


@pytest.fixture(scope="module")
def world(server: EmbeddedServer, template: str) -> Iterator[World]:
    """One for all the tests here; they leave it as it is."""
    clock = Clock(T0)
    with fresh_database(server, template) as name, open_ledger(store.urls(server, name), clock) as ledger:
        firm = lively_firm(ledger, clock)
        with ledger.reading(firm.program) as (cur, id_):
            named = [
                (who, one.period, one.version)
                for who in ("ada", "bob", "Zoe", "cy-1", "d.e")
                for one in periods.statements_of(cur, id_, who)
            ]
        yield World(firm, {one: proof(firm, *one) for one in named}, Forger(firm))


def run_one_page(tmp_path: Path, file: bytes, *keys: str) -> tuple[int, str]:
    """(exit code, what it says) of the one-page verifier, as a stranger runs it."""
    path = tmp_path / "proof.json"
    path.write_bytes(file)
    done = subprocess.run(
        [sys.executable, "-I", str(ONE_PAGE), str(path), *keys], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr
