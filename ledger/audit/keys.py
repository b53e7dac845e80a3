"""The ledger's own signing keys, with which checkpoints are signed; only whoever seals needs them.

A key is an Ed25519 seed, 64 hexadecimal digits. Several, one a line, are a rotation: all of them sign, the first is the
current one. Nothing of a key appears in a text of ours.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from ledger.audit.notes import Signer
from ledger.store.durable import alone, write_whole
from ledger.store.vault import own_key_file

KEYS, KEY_FILE, ORIGIN = "LEDGER_SIGNING_KEY", "LEDGER_SIGNING_KEY_FILE", "LEDGER_ORIGIN"
FILE_NAME = "signing.key"
DEFAULT_ORIGIN = "commission-ledger.localhost"
_SEED = re.compile(r"[0-9a-fA-F]{64}")
_PART = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,64}")


class SigningKeyWrong(Exception):
    """The signing key, or the name that it signs under, is none; the message says what would be right."""


class SigningKeys:
    """Keys that sign, the current one first. origin: what logs' names begin with."""

    def __init__(self, seeds: Sequence[bytes], origin: str) -> None:
        self._seeds, self._origin = list(seeds), origin

    def __repr__(self) -> str:
        return f"SigningKeys({len(self._seeds)} for {self._origin})"

    def signers(self, program: str, log: str) -> list[Signer]:
        """Every key as it signs a log. Raises SigningKeyWrong."""
        name = log_name(self._origin, program, log)
        return [Signer(name, seed) for seed in self._seeds]


def log_name(origin: str, program: str, log: str) -> str:
    """A log's name in the world, which is its checkpoints' origin and its keys' name. Raises SigningKeyWrong."""
    if not _PART.fullmatch(program):
        raise SigningKeyWrong(f"a program {program!r} cannot stand in a log's name")
    return f"{origin}/{program}/{log}"


def is_name(text: str) -> bool:
    """Whether this can be a log's name, or the beginning of one: parts that are safe in a path and an address."""
    return all(_PART.fullmatch(part) for part in text.split("/"))


def load_origin(env: Mapping[str, str] | None = None) -> str:
    """What logs' names begin with: LEDGER_ORIGIN, a host name that is yours, perhaps with a path. Raises
    SigningKeyWrong."""
    origin = (os.environ if env is None else env).get(ORIGIN) or DEFAULT_ORIGIN
    if not is_name(origin) or len(origin) > 200:
        raise SigningKeyWrong(
            f"{ORIGIN} must be a host name of yours, such as ledger.example.com, perhaps with a path (without https://)"
        )
    return origin


def has_signing_key(home: Path | None, env: Mapping[str, str] | None = None) -> bool:
    """Whether there is a key, or a home in which one is made."""
    env = os.environ if env is None else env
    return bool(env.get(KEYS) or env.get(KEY_FILE) or home)


def load_signing_keys(
    home: Path | None, env: Mapping[str, str] | None = None, *, make: bool = True
) -> SigningKeys | None:
    """The keys in LEDGER_SIGNING_KEY, else in the file LEDGER_SIGNING_KEY_FILE, else in a file in the home that is made
    on first use (0600), unless make is False; None without any. Raises SigningKeyWrong, OSError."""
    env = os.environ if env is None else env
    origin, where, text = load_origin(env), KEYS, env.get(KEYS, "")
    if not text:
        path = key_file(home, env)
        if path is None or not (make or path.exists()):
            return None
        where = str(path)
        text = path.read_text() if env.get(KEY_FILE) else own_key_file(path)
    return SigningKeys(_seeds(text, where), origin)


def key_file(home: Path | None, env: Mapping[str, str] | None = None) -> Path | None:
    """The file in which keys are kept, None without a place for one."""
    env = os.environ if env is None else env
    if named := env.get(KEY_FILE):
        return Path(named).absolute()
    return home / FILE_NAME if home is not None else None


def add_key(path: Path) -> None:
    """Make a new key the current one of a file, above those that it has. Raises SigningKeyWrong, OSError."""
    with alone(path):
        old = path.read_text().split() if path.exists() else []
        if old:
            _seeds("\n".join(old), str(path))
        write_whole(path, "".join(f"{line}\n" for line in [secrets.token_hex(32), *old]).encode())


def _seeds(text: str, where: str) -> list[bytes]:
    lines = text.split()
    wrong = next((number for number, line in enumerate(lines, 1) if not _SEED.fullmatch(line)), None)
    if not lines or wrong or len({line.lower() for line in lines}) < len(lines):
        what = f"line {wrong} is not" if wrong else "there is none, or one twice" if lines else "there is none"
        raise SigningKeyWrong(f"{where}: a signing key is 64 hexadecimal digits, one key a line; {what}")
    return [bytes.fromhex(line) for line in lines]
