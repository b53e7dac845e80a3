"""Signed notes, keys and checkpoints: known answers, other people's programs, and what is refused; the ledger's own
keys, where they come from and where they never go."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from third_parties import Refused, sigstore_reads

from ledger.audit.keys import (
    SigningKeys,
    SigningKeyWrong,
    add_key,
    has_signing_key,
    load_origin,
    load_signing_keys,
)
from ledger.audit.notes import (
    Checkpoint,
    InvalidNote,
    Signer,
    VerifierKey,
    open_checkpoint,
    read_checkpoint,
    read_note,
    read_verifier_key,
    sign,
    verified_by,
)

# The example of golang.org/x/mod/sumdb/note, whose format became C2SP signed-note.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETERS_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
PETERS_NOTE = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ORIGIN = "ledger.example/shop/books"
SEED, OTHER = b"\x01" * 32, b"\x02" * 32


def checkpoint(size: int = 5, root: bytes = b"r" * 32) -> Checkpoint:
    return Checkpoint(ORIGIN, size, root)


def signer(seed: bytes = SEED, name: str = ORIGIN) -> Signer:
    return Signer(name, seed)


# --- known answers and other people --------------------------------------------------------------------------------


def test_the_example_of_the_go_implementation() -> None:
    """Its verifier key is read and written as it stands, its note is believed, and its seed signs the same note."""
    key = read_verifier_key(PETER)
    assert (key.name, key.key_id.hex(), str(key)) == ("PeterNeumann", "c74f20a3", PETER)
    note = read_note(PETERS_NOTE)
    assert verified_by(note, [key]) == [key]
    own = Signer("PeterNeumann", PETERS_SEED)
    assert str(own.key) == PETER
    assert sign(note.text, [own]) == PETERS_NOTE


@given(st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_sigstore_reads_our_checkpoints(size: int, root: bytes) -> None:
    """Origin, size and root arrive, the signature holds; under a key that did not sign it is refused."""
    note = sign(checkpoint(size, root).text(), [signer()])
    assert sigstore_reads(note, signer().key) == (ORIGIN, size, root)
    with pytest.raises(Refused):
        sigstore_reads(note, signer(OTHER).key)
    with pytest.raises(Refused):
        sigstore_reads(note.replace(f"\n{size}\n", f"\n{size + 1}\n"), signer().key)


def test_during_a_rotation_whoever_knows_one_of_the_keys_is_content() -> None:
    """Both keys sign; a reader with only the old or only the new one accepts, sigstore too."""
    old, new = signer(SEED), signer(OTHER)
    note = sign(checkpoint().text(), [new, old])
    for known in ([old.key], [new.key], [old.key, new.key]):
        assert open_checkpoint(note, known) == checkpoint()
    for one in (old, new):
        assert sigstore_reads(note, one.key) == (ORIGIN, 5, b"r" * 32)
    assert verified_by(read_note(note), [old.key, new.key]) == [old.key, new.key]


# --- what is refused ---------------------------------------------------------------------------------------------


def test_a_checkpoint_needs_a_key_of_its_own_log() -> None:
    """An unknown key, the key of another log, or a witness's alone say nothing; the message names what is known."""
    note = sign(checkpoint().text(), [signer()])
    with pytest.raises(
        InvalidNote, match=r"none of its known keys \(known: ledger.example/shop/books\+24e3f983; it is signed by"
    ):
        open_checkpoint(note, [signer(OTHER).key])
    other_log = signer(SEED, "ledger.example/shop/traffic")
    with pytest.raises(InvalidNote, match="none of its known keys"):
        open_checkpoint(sign(checkpoint().text(), [other_log]), [other_log.key])
    with pytest.raises(InvalidNote, match=r"known: none"):
        open_checkpoint(note, [])


def test_every_changed_byte_of_a_note_is_noticed() -> None:
    """Whatever single character is changed, the note is not believed as it was."""
    note = sign(checkpoint().text(), [signer()])
    for at, letter in enumerate(note):
        changed = note[:at] + ("A" if letter != "A" else "B") + note[at + 1 :]
        with pytest.raises(InvalidNote):
            open_checkpoint(changed, [signer().key])


@pytest.mark.parametrize(
    "note",
    [
        "",
        "a\n",
        "a\n\n",
        "a\n\n— n\n",
        "a\n\n— n AAAA\n",
        "a\n\nx n AAAAAAA=\n",
        "a\n\n— n AAAAAAA=",
        "a" * 70_000,
        "a\x1b[8m\n\n— n AAAAAAA=\n",
        "a\n\n— n\x9b AAAAAAA=\n",
        "a\n\n— n\u202e AAAAAAA=\n",
    ],
)
def test_what_is_no_note_is_refused(note: str) -> None:
    """No text, no signature, no key id, no end."""
    with pytest.raises(InvalidNote):
        read_note(note)


@pytest.mark.parametrize(
    "text",
    [
        "o\n1\n",
        "o\n01\ncg==\n",
        "o\n-1\ncg==\n",
        f"\n1\n{'A' * 43}=\n",
        "o\n1\ncg==\n",
        "o\n1\n!\n",
        "o\n1e3\nx\n",
        f"o\x1b[8m\n1\n{'A' * 43}=\n",
        f"o p\n1\n{'A' * 43}=\n",
        f"o+p\n1\n{'A' * 43}=\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    """An origin, a plain number, 32 bytes of root."""
    with pytest.raises(InvalidNote):
        read_checkpoint(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "PeterNeumann", "PeterNeumann+c74f20a3", PETER.replace("c74f20a3", "c74f20a4"), PETER[:-4],
        PETER.replace("+AR", "+BR"), "two words" + PETER.removeprefix("PeterNeumann"),
    ],
)  # fmt: skip
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    """The hash must be the key's, and the key an Ed25519 key."""
    with pytest.raises(InvalidNote):
        read_verifier_key(text)


def test_what_is_given_for_a_verifier_key_is_not_repeated() -> None:
    """It may be the signing key, given by mistake; messages end in logs."""
    seed = SEED.hex()
    texts = (seed, base64.b64encode(SEED).decode(), f"PRIVATE+KEY+{PETER}", f"n+{seed}+{PETER[22:]}", f"{seed}+00+00")
    for text in texts:
        with pytest.raises(InvalidNote, match="not a verifier key") as refused:
            read_verifier_key(text)
        assert not any(part in str(refused.value) for part in (text[:16], seed[:16], PETER[22:38]))


# --- the ledger's own keys -----------------------------------------------------------------------------------------


def names(keys: SigningKeys | None) -> list[bytes]:
    assert keys is not None
    return [one.key.public for one in keys.signers("shop", "books")]


def test_keys_come_from_the_environment_a_file_or_the_home(tmp_path: Path) -> None:
    """The environment goes first, then the named file, then a file in the home, which is made once and readable by
    its owner alone; without all of them there is none."""
    home, file = tmp_path / "home", tmp_path / "keys"
    file.write_text(f"{OTHER.hex()}\n{SEED.hex()}\n")
    env = {"LEDGER_SIGNING_KEY": SEED.hex(), "LEDGER_SIGNING_KEY_FILE": str(file)}
    own, other = signer(SEED).key.public, signer(OTHER).key.public
    assert names(load_signing_keys(home, env)) == [own]
    del env["LEDGER_SIGNING_KEY"]
    assert names(load_signing_keys(home, env)) == [other, own], "the first is the current one"
    assert not home.exists()
    made = names(load_signing_keys(home, {}))
    assert names(load_signing_keys(home, {})) == made
    assert stat.S_IMODE((home / "signing.key").stat().st_mode) == 0o600
    assert load_signing_keys(None, {}) is None
    assert [has_signing_key(home, {}), has_signing_key(None, env), has_signing_key(None, {})] == [True, True, False]


def test_a_new_key_goes_before_those_of_the_file(tmp_path: Path) -> None:
    """Rotation: the new one is the current one, the old one signs on; the file stays its owner's."""
    path = tmp_path / "signing.key"
    add_key(path)
    (first,) = path.read_text().split()
    add_key(path)
    assert len(path.read_text().split()) == 2
    assert path.read_text().split()[1] == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("not a key\n")
    with pytest.raises(SigningKeyWrong, match="line 1 is not"):
        add_key(path)
    assert path.read_text() == "not a key\n"


@pytest.mark.parametrize(
    "text", ["00", "x" * 64, f"{SEED.hex()} {SEED.hex()}", f"{SEED.hex()}\n{OTHER.hex()[:-1]}", f"{SEED.hex()}00"]
)
def test_a_wrong_key_is_refused_without_being_shown(text: str) -> None:
    """The message says what a key is and which line is wrong, and has nothing of it."""
    with pytest.raises(SigningKeyWrong, match="64 hexadecimal digits") as refused:
        load_signing_keys(None, {"LEDGER_SIGNING_KEY": text})
    assert text[:8] not in str(refused.value).replace("64 hex", "")
    assert SEED.hex()[:8] not in str(refused.value)


def test_nothing_prints_a_private_key() -> None:
    """Neither keys nor signers, however they are shown."""
    keys = load_signing_keys(None, {"LEDGER_SIGNING_KEY": SEED.hex()})
    assert keys is not None
    (one,) = keys.signers("shop", "books")
    shown = f"{keys!r} {keys} {one!r} {one} {one.key!r} {vars(one)!r}"
    assert SEED.hex() not in shown
    assert repr(SEED) not in shown


def test_a_log_is_called_by_origin_program_and_log() -> None:
    """Keys are named like the log that they sign, so that no checkpoint stands for another log."""
    env = {"LEDGER_SIGNING_KEY": SEED.hex()}
    assert load_origin({}) == "commission-ledger.localhost"
    keys = load_signing_keys(None, env | {"LEDGER_ORIGIN": "ledger.example/eu"})
    assert keys is not None
    assert [one.key.name for one in keys.signers("my.shop", "traffic")] == ["ledger.example/eu/my.shop/traffic"]
    for origin in ("https://ledger.example", "a b", "a+b", "/a", "a/", "a/../b", "x" * 201):
        with pytest.raises(SigningKeyWrong, match="LEDGER_ORIGIN must be a host name"):
            load_signing_keys(None, env | {"LEDGER_ORIGIN": origin})
    for program in ("..", "."):
        with pytest.raises(SigningKeyWrong, match="cannot stand in a log's name"):
            keys.signers(program, "books")


def test_a_cosignature_of_a_witness_counts_beside_and_not_instead() -> None:
    """A note may carry signatures of others; they neither disturb nor vouch for the log."""
    witness = VerifierKey("witness.example", signer(OTHER).key.public, 4)
    note = sign(checkpoint().text(), [signer(), signer(b"\x03" * 32, "somebody")])
    assert open_checkpoint(note, [signer().key, witness]) == checkpoint()
