"""Checkpoints reach every witness once, and a witness that knows another history is heard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fake_witness import FakeWitness, fake_witness
from support import PROGRAM, T0, Clock, by, open_ledger, open_shop, owner, sale

from ledger import publishing_job, sealing_job
from ledger.application import CommissionLedger
from ledger.audit import publishing, tree
from ledger.audit.keys import SigningKeys, SigningKeyWrong
from ledger.audit.notes import open_checkpoint
from ledger.audit.publishing import Told, publish
from ledger.audit.sealing import seal
from ledger.audit.witnesses import Cosigner, Directory, Witness
from ledger.jobs import JOBS
from ledger.publishing_job import WitnessRefused
from ledger.store.database import Database

KEYS = SigningKeys([b"\x01" * 32], "ledger.example")


@pytest.fixture
def witness() -> Iterator[FakeWitness]:
    with fake_witness() as running:
        yield running


def sealed(ledger: CommissionLedger) -> str:
    """Seal the books; the note that was signed."""
    done = seal(ledger, PROGRAM, "books", KEYS.signers(PROGRAM, "books"), T0).checkpoint
    assert done is not None
    return done.note


def test_each_witness_is_told_each_checkpoint_once(database: Database, tmp_path: Path, witness: FakeWitness) -> None:
    """What is served carries the cosignature; a witness that was away hears of the newest when it is back."""
    with open_ledger(database, Clock()) as ledger:
        open_shop(ledger)
        some: list[Witness] = [Directory("archive", tmp_path), Cosigner("acme", witness.url, witness.key)]
        assert publish(ledger, PROGRAM, some, Clock()) == []
        note = sealed(ledger)
        size = int(note.split("\n")[1])
        witness.broken = "500"
        assert publish(ledger, PROGRAM, some, Clock()) == [
            Told("archive", "books", size, "took", ""),
            Told("acme", "books", size, "unreached", "http_500"),
        ]
        witness.broken = ""
        ledger.execute(PROGRAM, sale("A"), by())
        note = sealed(ledger)
        assert [(one.witness, one.outcome) for one in publish(ledger, PROGRAM, some, Clock())] == [
            ("archive", "took"),
            ("acme", "took"),
        ]
        assert publish(ledger, PROGRAM, some, Clock()) == []
        with ledger.reading(PROGRAM) as (cur, id_):
            newest = tree.newest_checkpoint(cur, id_, "books")
            assert newest is not None
            served = tree.published_note(cur, id_, "books", newest)
            found = [(one.witness, one.size, one.cosigned) for one in publishing.publications(cur, id_)]
        assert found == [("acme", newest.size, True), ("archive", newest.size, False)]
    assert served.startswith(note)
    assert open_checkpoint(served, [KEYS.signers(PROGRAM, "books")[0].key, witness.key]).size == newest.size
    assert (tmp_path / "ledger.example" / PROGRAM / "books" / "checkpoint").read_text() == note


def test_a_log_with_another_history_fails_the_job(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive knows a checkpoint of the same name and size, and another root: as after a rewrite that is
    consistent in itself. The run fails with the witness's words, and what the archive has stays."""
    archive = tmp_path / "archive"
    archive.mkdir()
    chosen = tmp_path / "witnesses.toml"
    chosen.write_text(f'[archive]\ndirectory = "{archive}"\n')
    monkeypatch.setenv("LEDGER_WITNESSES_FILE", str(chosen))
    with open_ledger(database, Clock()) as ledger:
        open_shop(ledger)
        note = sealed(ledger)
        place = archive / "ledger.example" / PROGRAM / "books" / "checkpoint"
        place.parent.mkdir(parents=True)
        other = note.replace(note.split("\n")[2], "A" * 43 + "=")
        place.write_text(other)
        with ledger.reading(PROGRAM) as (cur, id_):
            assert publishing_job.waiting_since(cur, id_) == T0
        with pytest.raises(WitnessRefused, match="another history") as refused:
            publishing_job.publish(ledger, PROGRAM, T0, by())
        assert refused.value.detail["witness"] == "archive"
        assert place.read_text() == other
        place.write_text(note)
        assert publishing_job.publish(ledger, PROGRAM, T0, by()) == {"told": 1}
        with ledger.reading(PROGRAM) as (cur, id_):
            assert publishing_job.waiting_since(cur, id_) is None


@pytest.mark.parametrize("change", ["signature", "name", "size"])
def test_a_checkpoint_that_was_never_signed_is_told_to_nobody(database: Database, tmp_path: Path, change: str) -> None:
    """Whoever can write in the database has no key: what he puts there stays there, and the worker says so."""
    with open_ledger(database, Clock()) as ledger:
        open_shop(ledger)
        note = sealed(ledger)
        origin, size, _ = note.split("\n")[:3]
        forged = {
            "signature": note.replace(f"\n{size}\n", "\n3\n"),
            "name": note.replace(origin, f"../elsewhere/{PROGRAM}/books"),
            "size": note,
        }[change]
        with owner(database) as conn:
            conn.execute("ALTER TABLE checkpoints DISABLE TRIGGER USER")
            conn.execute("UPDATE checkpoints SET note = %s, size = size + %s", (forged, int(change == "size")))
        archive = tmp_path / "archive"
        archive.mkdir()
        (told,) = publish(ledger, PROGRAM, [Directory("archive", archive)], Clock())
    assert (told.outcome, "is not told" in told.reason) == ("refused", True)
    assert list(tmp_path.rglob("*")) == [archive]


def test_the_worker_has_the_job() -> None:
    """Every minute, and without a trace when nothing waits."""
    job = next(job for job in JOBS if job.name == "publish-checkpoints")
    assert job.on
    assert job.interval == timedelta(minutes=1)
    assert job.waiting_since is publishing_job.waiting_since


def test_a_lost_signing_key_is_not_replaced_in_silence(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On first use a key is made; when it is gone, as after a restore without it, nothing is signed by a stranger's:
    the key that is missing is named."""
    monkeypatch.setenv("LEDGER_HOME", str(tmp_path))
    monkeypatch.delenv("LEDGER_SIGNING_KEY", raising=False)
    with open_ledger(database, Clock()) as ledger:
        open_shop(ledger)
        sealing_job.seal(ledger, PROGRAM, T0, by())
        file = tmp_path / "signing.key"
        key = file.read_text()
        with ledger.reading(PROGRAM) as (cur, id_):
            (known,) = tree.sealing_keys(cur, id_, "books")
        file.unlink()
        ledger.execute(PROGRAM, sale("A"), by())
        with pytest.raises(SigningKeyWrong, match=re.escape(str(known.key))):
            sealing_job.seal(ledger, PROGRAM, T0, by())
        assert not file.exists()
        file.write_text(key)
        assert sealing_job.seal(ledger, PROGRAM, T0, by())["books"]["new"] == 2
