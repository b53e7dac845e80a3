"""Signed notes and checkpoints: a log's size and root in a few lines of text that anyone can check.

Sources: C2SP signed-note (the envelope), tlog-checkpoint (the text), tlog-cosignature (what witnesses add). A verifier
key is one line: name+hash+base64(algorithm || public key); whoever publishes it says by that who may sign.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.audit.merkle import HASH_BYTES

ED25519 = 1  # signature algorithms of signed-note
COSIGNATURE_V1 = 4
KEY_BYTES = 32
_DASH = "\u2014 "  # a signature line begins with an em dash and a space
_NAME = re.compile(r"[^\s+]+")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")  # signed-note: none but newlines in a note
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
MAX_NOTE_BYTES = 1 << 16


class InvalidNote(ValueError):
    """A note, a key or a signature that does not hold; the message says why."""


def _is_name(text: str) -> bool:
    """Whether a key or a log may be called so: signed-note's rule (no white space, no plus), and nothing that would
    move a terminal's cursor or hide what it shows."""
    return _NAME.fullmatch(text) is not None and text.isprintable()


def to_base64(raw: bytes) -> str:
    """Standard base64, padded."""
    return base64.b64encode(raw).decode()


def from_base64(text: str) -> bytes:
    """The bytes of canonical base64. Raises InvalidNote."""
    try:
        raw = base64.b64decode(text.encode(), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidNote("not base64") from None
    if to_base64(raw) != text:
        raise InvalidNote("not canonical base64")
    return raw


class VerifierKey(NamedTuple):
    """Who may sign, by name. public: an Ed25519 key's 32 bytes; algorithm: ED25519 for a log, COSIGNATURE_V1 for a
    witness."""

    name: str
    public: bytes
    algorithm: int = ED25519

    @property
    def key_id(self) -> bytes:
        """Four bytes by which a signature line names the key."""
        return sha256(self.name.encode() + b"\n" + bytes([self.algorithm]) + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{to_base64(bytes([self.algorithm]) + self.public)}"


def read_verifier_key(text: str) -> VerifierKey:
    """A verifier key from its line. Raises InvalidNote, which has nothing of the text: people have given their signing
    key by mistake, and messages end in logs."""
    wrong = InvalidNote("not a verifier key: that is one line, name+hash+base64 of an Ed25519 key with its algorithm")
    name, _, rest = text.strip().partition("+")
    hash_, _, encoded = rest.partition("+")
    try:
        raw = from_base64(encoded)
    except InvalidNote:
        raise wrong from None
    if not _is_name(name) or len(raw) != 1 + KEY_BYTES or raw[0] not in (ED25519, COSIGNATURE_V1):
        raise wrong
    key = VerifierKey(name, raw[1:], raw[0])
    if key.key_id.hex() != hash_:
        raise InvalidNote("not a verifier key: its hash is that of another name or key")
    return key


class Signer:
    """A key that signs under a name. seed: an Ed25519 private key's 32 bytes."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.key = VerifierKey(name, self._private.public_key().public_bytes_raw())

    def line(self, text: str) -> str:
        """The signature line for a note's text, without its newline."""
        return _signature_line(self.key, self._private.sign(text.encode()))


def _signature_line(key: VerifierKey, signature: bytes) -> str:
    return f"{_DASH}{key.name} {to_base64(key.key_id + signature)}"


class Signature(NamedTuple):
    """A signature line of a note. raw: what follows the key id."""

    name: str
    key_id: bytes
    raw: bytes


class Note(NamedTuple):
    """A note, read and not yet believed. text ends with a newline."""

    text: str
    signatures: list[Signature]


def sign(text: str, signers: Iterable[Signer]) -> str:
    """A note: the text, which ends with a newline, an empty line, a signature line each."""
    return text + "\n" + "".join(f"{signer.line(text)}\n" for signer in signers)


def read_note(note: str) -> Note:
    """Take a note apart. Raises InvalidNote."""
    if len(note) > MAX_NOTE_BYTES:
        raise InvalidNote("the note is too long")
    text, empty_line, lines = note.rpartition("\n\n")
    if not empty_line or not lines.endswith("\n"):
        raise InvalidNote("a note is a text, an empty line, and signature lines, each ended by a newline")
    if _CONTROL.search(note):
        raise InvalidNote("a note has no control characters")
    signatures = []
    for line in lines[:-1].split("\n"):
        name, _, encoded = line.removeprefix(_DASH).partition(" ")
        raw = from_base64(encoded)
        if not line.startswith(_DASH) or not _is_name(name) or len(raw) < 5:
            raise InvalidNote(f"not a signature line: {line[:80]!r}")
        signatures.append(Signature(name, raw[:4], raw[4:]))
    return Note(text + "\n", signatures)


def verified_by(note: Note, keys: Iterable[VerifierKey]) -> list[VerifierKey]:
    """Which of these keys signed the note. A wrong signature of a known key is an error, one of an unknown key is not:
    others may sign as well. Raises InvalidNote."""
    found = []
    for key in keys:
        mine = [one for one in note.signatures if one.name == key.name and one.key_id == key.key_id]
        if not mine:
            continue
        for one in mine:
            _check(note.text, one, key)
        found.append(key)
    return found


def _check(text: str, signature: Signature, key: VerifierKey) -> None:
    message, raw = text.encode(), signature.raw
    if key.algorithm == COSIGNATURE_V1:
        if len(raw) != 8 + 64:
            raise InvalidNote(f"the cosignature of {key.name} has another length")
        (seconds,) = struct.unpack(">Q", raw[:8])
        message, raw = cosigned_message(text, seconds), raw[8:]
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(raw, message)
    except (InvalidSignature, ValueError):
        raise InvalidNote(f"the signature of {key.name} is wrong") from None


def cosigned_message(text: str, seconds: int) -> bytes:
    """What a witness signs: the checkpoint as seen at an instant, in seconds since 1970."""
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()


class Checkpoint(NamedTuple):
    """How long a log is, and the root over it. origin: the log's name in the world."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The note's text."""
        return f"{self.origin}\n{self.size}\n{to_base64(self.root)}\n"


def read_checkpoint(text: str) -> Checkpoint:
    """A checkpoint from a note's text; lines behind the root (extensions) are left to those who know them. The
    origin is a name that a key can have: a log's signature is by the key of its name. Raises InvalidNote."""
    lines = text.split("\n")
    if len(lines) < 4 or not _is_name(lines[0]) or not _SIZE.fullmatch(lines[1]):
        raise InvalidNote("a checkpoint is a line each of origin (a name without white space), size and root")
    root = from_base64(lines[2])
    if len(root) != HASH_BYTES:
        raise InvalidNote(f"a root has {HASH_BYTES} bytes")
    return Checkpoint(lines[0], int(lines[1]), root)


def open_checkpoint(note: str, keys: Sequence[VerifierKey]) -> Checkpoint:
    """A checkpoint that one of these keys signed under the log's own name. Raises InvalidNote."""
    read = read_note(note)
    checkpoint = read_checkpoint(read.text)
    signed = verified_by(read, keys)
    if not any(key.name == checkpoint.origin and key.algorithm == ED25519 for key in signed):
        known = ", ".join(sorted({f"{key.name}+{key.key_id.hex()}" for key in keys})) or "none"
        signs = ", ".join(f"{one.name}+{one.key_id.hex()}" for one in read.signatures)
        raise InvalidNote(
            f"the checkpoint of {checkpoint.origin} is signed by none of its known keys (known: {known}; it is signed"
            f" by {signs})"
        )
    return checkpoint
