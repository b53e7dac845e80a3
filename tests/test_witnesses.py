"""Witnesses outside remember what a log was, and refuse another history of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from fake_witness import FakeWitness, fake_witness

from ledger.audit import merkle, notes, witnesses
from ledger.audit.notes import Signer, VerifierKey
from ledger.audit.witnesses import Cosigner, Directory, Refused, Unreached, Webhook, load_witnesses
from ledger.domain.errors import InvalidInput

ORIGIN = "ledger.example/shop/books"
SIGNER = Signer(ORIGIN, bytes(32))
LEAVES = [merkle.leaf_hash(f"event {n}".encode()) for n in range(300)]
FORKED = [*LEAVES[:100], merkle.leaf_hash(b"another event"), *LEAVES[101:]]


def checkpoint(size: int, leaves: Sequence[bytes] = LEAVES) -> str:
    """The signed checkpoint over the first leaves."""
    return notes.sign(notes.Checkpoint(ORIGIN, size, merkle.root_of(leaves[:size])).text(), [SIGNER])


def prover(leaves: Sequence[bytes] = LEAVES) -> witnesses.Prove:
    node = merkle.nodes_from_leaves(leaves)
    return lambda old, new: merkle.consistency_proof(old, new, node)


@pytest.fixture
def witness() -> Iterator[FakeWitness]:
    with fake_witness() as running:
        yield running


# --- a directory ---------------------------------------------------------------------------------------------


def test_a_directory_keeps_every_checkpoint(tmp_path: Path) -> None:
    """The newest under one name, each under its size; the same again changes nothing."""
    archive = Directory("archive", tmp_path)
    for size in (5, 150, 150, 300):
        assert archive.tell(checkpoint(size), 0, prover()) == ""
    place = tmp_path / "ledger.example" / "shop" / "books"
    assert (place / "checkpoint").read_text() == checkpoint(300)
    assert (place / "150").read_text() == checkpoint(150)
    assert sorted(path.name for path in place.iterdir()) == ["150", "300", "5", "checkpoint", "checkpoint.lock"]


@pytest.mark.parametrize(
    ("size", "leaves", "words"),
    [(300, FORKED, "another history"), (200, FORKED, "another history"), (120, LEAVES, "knows 200 events")],
)
def test_a_directory_refuses_forks_and_shorter_logs(tmp_path: Path, size: int, leaves: list[bytes], words: str) -> None:
    """What was written down before stays as it is."""
    archive = Directory("archive", tmp_path)
    archive.tell(checkpoint(200), 0, prover())
    with pytest.raises(Refused, match=words):
        archive.tell(checkpoint(size, leaves), 200, prover(leaves))
    assert (tmp_path / ORIGIN / "checkpoint").read_text() == checkpoint(200)
    assert not (tmp_path / ORIGIN / str(300)).exists()


def test_a_directory_that_is_not_mounted_or_holds_rubbish(tmp_path: Path) -> None:
    """Nobody makes it by mistake; a file that is no checkpoint is not overwritten."""
    with pytest.raises(Unreached, match="no_directory"):
        Directory("archive", tmp_path / "gone").tell(checkpoint(5), 0, prover())
    assert not (tmp_path / "gone").exists()
    (tmp_path / ORIGIN).mkdir(parents=True)
    (tmp_path / ORIGIN / "checkpoint").write_text("rubbish")
    with pytest.raises(Refused, match="not a checkpoint"):
        Directory("archive", tmp_path).tell(checkpoint(5), 0, prover())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_is_told_later(tmp_path: Path) -> None:
    """It is not reached, which is tried again, and no crash."""
    tmp_path.chmod(0o500)
    with pytest.raises(Unreached):
        Directory("archive", tmp_path).tell(checkpoint(5), 0, prover())


@pytest.mark.parametrize("origin", ["../elsewhere/books", "ledger.example/../../elsewhere", "a//b", "/abs", "."])
def test_a_name_that_leads_out_of_the_directory_is_refused(tmp_path: Path, origin: str) -> None:
    """Nothing is made there, nor anywhere else."""
    archive = tmp_path / "archive"
    archive.mkdir()
    note = notes.sign(notes.Checkpoint(origin, 5, merkle.root_of(LEAVES[:5])).text(), [SIGNER])
    with pytest.raises(Refused, match="no log's name"):
        Directory("archive", archive).tell(note, 0, prover())
    assert list(tmp_path.rglob("*")) == [archive]


# --- a C2SP witness ------------------------------------------------------------------------------------------


def test_a_witness_cosigns_what_grows(witness: FakeWitness) -> None:
    """Its line verifies under its own key, beside the log's."""
    cosigner = Cosigner("acme", witness.url, witness.key)
    known = 0
    for size in (1, 8, 299, 299, 300):
        lines = cosigner.tell(checkpoint(size), known, prover())
        known = size
        note = notes.read_note(checkpoint(size) + lines)
        assert notes.verified_by(note, [SIGNER.key, witness.key]) == [SIGNER.key, witness.key]
    assert witness.logs[ORIGIN].size == 300


@pytest.mark.parametrize("remembers", [0, 8])
def test_a_witness_that_remembers_another_size_is_asked_once_more(witness: FakeWitness, remembers: int) -> None:
    """It lost its memory, or our note of what we told it was lost."""
    cosigner = Cosigner("acme", witness.url, witness.key)
    if remembers:
        cosigner.tell(checkpoint(remembers), 0, prover())
    assert cosigner.tell(checkpoint(300), 150, prover())
    assert witness.logs[ORIGIN].size == 300


@pytest.mark.parametrize("size", [300, 200])
def test_a_witness_refuses_a_fork(witness: FakeWitness, size: int) -> None:
    """Two histories of one log: the second gets no cosignature, whatever proof comes with it."""
    cosigner = Cosigner("acme", witness.url, witness.key)
    cosigner.tell(checkpoint(200), 0, prover())
    with pytest.raises(Refused, match="another history"):
        cosigner.tell(checkpoint(size, FORKED), 200, prover(FORKED))
    assert witness.logs[ORIGIN].root == merkle.root_of(LEAVES[:200])


def test_a_log_that_was_put_back_is_refused(witness: FakeWitness) -> None:
    """The witness knows more events than the checkpoint has."""
    cosigner = Cosigner("acme", witness.url, witness.key)
    cosigner.tell(checkpoint(200), 0, prover())
    with pytest.raises(Refused, match="knows 200 events"):
        cosigner.tell(checkpoint(120), 0, prover())


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("500", "http_500"),
        ("redirect", "http_302"),
        ("hang", "timeout"),
        ("drip_head", "timeout"),
        ("drip_body", "timeout"),
        ("wrong_signature", "wrong_cosignature"),
        ("other_key", "not_its_key"),
        ("nothing", "wrong_cosignature"),
    ],
)
def test_a_witness_that_misbehaves_is_asked_again_later(
    witness: FakeWitness, broken: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer, a redirect or a cosignature that does not hold is never taken for a yes."""
    monkeypatch.setattr(witnesses, "TIMEOUT_SECONDS", 0.3)
    witness.broken = broken
    begun = time.monotonic()
    with pytest.raises(Unreached, match=reason):
        Cosigner("acme", witness.url, witness.key).tell(checkpoint(5), 0, prover())
    assert time.monotonic() - begun < 15, "it drips for thirty seconds"


def test_a_witness_that_claims_to_know_more_is_not_believed_quietly(witness: FakeWitness) -> None:
    """It is reported as a refusal, for a person to look at."""
    witness.broken = "huge_size"
    with pytest.raises(Refused, match="knows 999999999999999999 events"):
        Cosigner("acme", witness.url, witness.key).tell(checkpoint(5), 0, prover())


def test_a_webhook_is_sent_the_note(witness: FakeWitness) -> None:
    """As it is; a 5xx answer is tried again."""
    hook = Webhook("auditor", witness.url)
    witness.broken = "500"
    with pytest.raises(Unreached, match="http_500"):
        hook.tell(checkpoint(5), 0, prover())
    assert witness.told == [checkpoint(5)]
    with pytest.raises(Unreached, match="ConnectionRefusedError"):
        Webhook("auditor", "http://127.0.0.1:9").tell(checkpoint(5), 0, prover())


# --- the operator's choice -----------------------------------------------------------------------------------


def written(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "witnesses.toml"
    path.write_text(text)
    return {"LEDGER_WITNESSES_FILE": str(path)}


def test_the_file_names_the_witnesses(tmp_path: Path, witness: FakeWitness) -> None:
    """One of each kind, in the order of the file; without a file there are none."""
    found = load_witnesses(
        written(
            tmp_path,
            f'[archive]\ndirectory = "{tmp_path}"\n[hook]\nwebhook = "https://a.example/x"\n'
            f'[acme]\nwitness = "{witness.url}"\nkey = "{witness.key}"\n',
        )
    )
    assert [(type(one), one.name) for one in found] == [(Directory, "archive"), (Webhook, "hook"), (Cosigner, "acme")]
    assert load_witnesses({}) == []


LOG_KEY = VerifierKey("a.example", bytes(32))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[a]\n", "must have one of directory, webhook, witness"),
        ('[a]\ndirectory = "relative"\n', "absolute path"),
        ('[a]\nwebhook = "ftp://x"\n', "begins with https://"),
        ('[a]\nwitness = "https://x"\n', "verifier key"),
        (f'[a]\nwitness = "https://x"\nkey = "{LOG_KEY}"\n', "is a log's key"),
        ('[a]\ndirectory = "/x"\nwebhook = "https://x"\n', "must have one of"),
        ('[a]\ndirectory = "/x"\ncolour = "red"\n', "colour: is not known"),
        ('["a b"]\ndirectory = "/x"\n', "a b"),
        ("[a\n", "is not TOML"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, text: str, words: str) -> None:
    """With what would be right."""
    with pytest.raises(InvalidInput) as refused:
        load_witnesses(written(tmp_path, text))
    assert words in str(refused.value)
