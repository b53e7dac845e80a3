"""Taking backups with the real pg_dump: whole or not there, readable by nobody else, without names or keys."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from backup_world import CANARY, World, bring_back, env_of, shim, start, wait_for
from support import MASTER_KEY, by

from ledger.audit.merkle import CompactRange
from ledger.backup.manifest import BackupRefused
from ledger.backup.restoring import Choice, restore
from ledger.backup.taking import take_backup
from ledger.store.embedded import EmbeddedServer


@pytest.fixture
def world(backed_up: World) -> World:
    """A shop with two backups."""
    return backed_up


def test_the_ledger_s_dump_has_neither_names_nor_the_keys_to_them(world: World, server: EmbeddedServer) -> None:
    """Decompressed, it holds the log and no personal data; the keys are in vault.dump alone, the master key nowhere."""
    tool = [server.program("pg_restore"), "--file=-"]
    text = subprocess.run([*tool, str(world.early / "ledger.dump")], capture_output=True, check=True).stdout
    keys = subprocess.run([*tool, str(world.early / "vault.dump")], capture_output=True, check=True).stdout
    assert b"COPY public.book_events" in text
    assert b"CREATE TABLE vault.subject_keys" in text
    assert b"COPY vault.subject_keys" not in text
    assert b"COPY vault.subject_keys" in keys
    assert b"affiliate:ada" in keys
    assert b"CREATE TABLE" not in keys
    for part in (text, keys, (world.early / "manifest.json").read_bytes()):
        assert CANARY.encode() not in part
        assert MASTER_KEY not in part
        assert MASTER_KEY.hex().encode() not in part


def test_the_manifest_says_what_is_there(world: World) -> None:
    """Where each log ends and with which leaf, computed here from the lines; private files with their digests."""
    said = json.loads((world.early / "manifest.json").read_bytes())
    for program in said["programs"]:
        for name, end in program["logs"].items():
            leaves = [hashlib.sha256(b"\x00" + line).digest() for line in world.lines[program["program"], name]]
            last = leaves[-1].hex() if leaves else ""
            assert end == {"position": len(leaves), "leaf_hash": last, "root": naive_root(leaves).hex()}
    assert set(said["files"]) == {"ledger.dump", "vault.dump"}
    for name, file in said["files"].items():
        content = (world.early / name).read_bytes()
        assert file == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert sorted(path.name for path in world.early.iterdir()) == ["ledger.dump", "manifest.json", "vault.dump"]
    assert {path.stat().st_mode & 0o077 for path in (world.early, *world.early.iterdir())} == {0}


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, word for word."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256().digest()
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def test_the_root_is_that_of_the_rfc() -> None:
    """For every number of leaves to 40, and for none."""
    tree, leaves = CompactRange(), []
    for n in range(41):
        assert tree.root() == naive_root(leaves)
        leaves.append(hashlib.sha256(b"\x00%d" % n).digest())
        tree.add(leaves[-1])


def test_a_backup_never_overwrites(world: World, tmp_path: Path) -> None:
    """A directory with something in it is refused and stays; an empty one is taken."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("mine")
    with pytest.raises(BackupRefused, match="is there already"):
        take_backup(env_of(world.database), tmp_path / "full")
    with pytest.raises(BackupRefused, match="make it first"):
        take_backup(env_of(world.database), tmp_path / "no" / "where")
    (tmp_path / "empty").mkdir()
    take_backup(env_of(world.database), tmp_path / "empty", with_vault=False)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "empty", "full", "ledger.dump", "manifest.json"]
    with pytest.raises(BackupRefused, match=r"has no vault\.dump"):
        bring_back(world.database, world.early, Choice(vault=tmp_path / "empty"))


def test_without_the_owner_nothing_is_backed_up_or_restored(world: World, tmp_path: Path) -> None:
    """The service's own role may not dump the tables, nor make them; the message says which URL is missing."""
    env = {key: value for key, value in env_of(world.database).items() if key != "LEDGER_OWNER_URL"}
    with pytest.raises(BackupRefused, match="LEDGER_OWNER_URL is needed"):
        take_backup(env, tmp_path / "backup")
    with pytest.raises(BackupRefused, match="LEDGER_OWNER_URL is needed"):
        restore(env, world.early, Choice(), by())
    assert list(tmp_path.iterdir()) == []


def test_an_older_pg_dump_than_the_server_is_refused(world: World, tmp_path: Path) -> None:
    """It would leave out what it does not know."""
    (tmp_path / "pg_dump").write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 14.9'\n")
    (tmp_path / "pg_dump").chmod(0o755)
    with pytest.raises(BackupRefused, match=r"or newer is needed \(found: 14.9 in .*LEDGER_PG_BIN"):
        take_backup(env_of(world.database, LEDGER_PG_BIN=str(tmp_path)), tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


# --- interrupted -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_backup_leaves_nothing_that_looks_whole(
    world: World, tmp_path: Path, server: EmbeddedServer, how: signal.Signals
) -> None:
    """Killed while the second dump is written: the directory is not there. The next one clears the rest away."""
    real, pid = server.program("pg_dump"), tmp_path / "pid"
    script = f'case "$*" in *vault.dump*) echo $$ > {pid}; exec sleep 60;; esac\nexec $REAL "$@"'
    place = tmp_path / "place"
    place.mkdir()
    env = env_of(world.database, LEDGER_PG_BIN=str(shim(tmp_path / "bin", "pg_dump", real, script)))
    process = start(["backup", str(place / "b")], env)
    dump = wait_for(pid)
    process.send_signal(how)
    process.communicate(timeout=30)
    assert not (place / "b").exists()
    assert list(place.rglob("manifest.json")) == []
    if how == signal.SIGKILL:
        assert [path.name[:11] for path in place.iterdir()] == [".b.partial-"]
        os.kill(dump, signal.SIGKILL)  # the orphan, which might still be writing
    else:
        assert list(place.iterdir()) == []
        with pytest.raises(ProcessLookupError):
            os.kill(dump, 0)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{dump}/cmdline").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    take_backup(env_of(world.database), place / "b")
    assert [path.name for path in place.iterdir()] == ["b"]
