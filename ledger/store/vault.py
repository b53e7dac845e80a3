"""Secrets: the service's master key and what is derived from it, and the data keys that make personal data readable.

Each subject (an affiliate, a month of traffic) has a data key of its own, wrapped by the master key and kept outside
the logs; destroying it erases the subject, and leaves every hash and total as it was. A destroyed key leaves a row
without a key, so that nobody, whoever races, makes the subject another.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import os
import secrets
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.domain.attribution import OUR_CLICK_PREFIX
from ledger.domain.click import ClickToken
from ledger.domain.erasure import ERASED
from ledger.store.log import Rows

NONCE_BYTES = 12
TOKEN_MAC_BYTES = 12
MASTER_KEY_FILE = "master.key"


class MasterKeyMissing(Exception):
    """There is no master key: set LEDGER_MASTER_KEY (64 hex digits) or LEDGER_MASTER_KEY_FILE."""


def load_master_key(home: Path | None, env: Mapping[str, str] | None = None) -> bytes:
    """The master key, 32 bytes: LEDGER_MASTER_KEY, else the file LEDGER_MASTER_KEY_FILE, else a file in the home
    that is made on first use (0600). Raises MasterKeyMissing."""
    env = os.environ if env is None else env
    text = env.get("LEDGER_MASTER_KEY", "")
    if not text and (named := env.get("LEDGER_MASTER_KEY_FILE")):
        text = Path(named).read_text()
    if not text and home is not None:
        text = own_key_file(home / MASTER_KEY_FILE)
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise MasterKeyMissing(MasterKeyMissing.__doc__)
    return key


def own_key_file(path: Path) -> str:
    """The text of a file that holds a secret of our own: 64 hex digits, made on first use (0600)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # refuses to replace the key of whoever was first
    finally:
        draft.unlink(missing_ok=True)
    return path.read_text()


class Secrets:
    """Everything that is derived from the master key without the database."""

    def __init__(self, master_key: bytes) -> None:
        self._master = master_key
        self._wrapping = AESGCM(self._derive(b"wrap"))
        self._access = self._derive(b"access-keys")
        self._click_keys: dict[UUID, bytes] = {}

    def _derive(self, purpose: bytes) -> bytes:
        return hmac.digest(self._master, b"commission-ledger/1/" + purpose, "sha256")

    # access keys

    def access_hmac(self, secret: str) -> bytes:
        """What is stored of an access key's secret, 32 bytes."""
        return hmac.digest(self._access, secret.encode(), "sha256")

    def postback_secret(self, program_id: UUID) -> str:
        """The secret with which a program's postbacks are signed, hex."""
        return self._derive(b"postback/" + program_id.bytes).hex()

    def fingerprint_key(self, program_id: UUID) -> bytes:
        """The key under which a program's bank details have fingerprints, 32 bytes."""
        return self._derive(b"fingerprints/" + program_id.bytes)

    # click ids

    def sign_click(self, program_id: UUID, affiliate_id: str, offer_id: str, at: datetime) -> str:
        """A click id of our own: it says affiliate, offer and instant, and proves it."""
        instant = int(at.timestamp() * 1000).to_bytes(7, "big", signed=True)
        raw = secrets.token_bytes(9) + instant + f"{affiliate_id}/{offer_id}".encode()
        return OUR_CLICK_PREFIX + _b64(raw + self._click_mac(program_id, raw))

    def read_click(self, program_id: UUID, click_id: str) -> ClickToken | None:
        """What a click id of our own says, or None when it is not ours or was tampered with."""
        if not click_id.startswith(OUR_CLICK_PREFIX):
            return None
        try:
            whole = _unb64(click_id[len(OUR_CLICK_PREFIX) :])
            raw, mac = whole[:-TOKEN_MAC_BYTES], whole[-TOKEN_MAC_BYTES:]
            if not hmac.compare_digest(mac, self._click_mac(program_id, raw)):
                return None
            affiliate_id, offer_id = raw[16:].decode("ascii").split("/")
            at = datetime.fromtimestamp(int.from_bytes(raw[9:16], "big", signed=True) / 1000, UTC)
        except (ValueError, OverflowError):
            return None
        return ClickToken(affiliate_id, offer_id, at)

    def _click_mac(self, program_id: UUID, raw: bytes) -> bytes:
        key = self._click_keys.get(program_id)
        if key is None:
            key = self._click_keys[program_id] = self._derive(b"clicks/" + program_id.bytes)
        return hmac.digest(key, raw, "sha256")[:TOKEN_MAC_BYTES]

    def ip_hash(self, program_id: UUID, address: str, at: datetime) -> str:
        """A keyed hash of an address whose key rotates daily, 16 hex digits: the address itself is never stored."""
        key = self._derive(b"ip/" + at.date().isoformat().encode() + program_id.bytes)
        return hmac.digest(key, address.encode(), "sha256")[:8].hex()

    # data keys

    def wrap(self, program_id: UUID, subject: str, key: bytes) -> bytes:
        """A data key, encrypted for storage."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._wrapping.encrypt(nonce, key, program_id.bytes + subject.encode())

    def unwrap(self, program_id: UUID, subject: str, wrapped: bytes) -> bytes:
        """The data key again. Raises cryptography.exceptions.InvalidTag under another master key."""
        nonce, sealed = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
        return self._wrapping.decrypt(nonce, sealed, program_id.bytes + subject.encode())


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    # b64decode would skip characters that do not belong, so that two texts meant one id
    padded = text + "=" * (-len(text) % 4)
    raw = base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True)
    if _b64(raw) != text:
        raise ValueError("not canonical")
    return raw


def traffic_subject(at: datetime) -> str:
    """The subject under whose key a month's clicks are encrypted."""
    return f"traffic:{at:%Y-%m}"


class Vault:
    """A program's data keys, as one transaction sees them. Ciphertext is bound to its stream and field."""

    def __init__(self, cur: Rows, secrets_: Secrets, program_id: UUID, now: datetime) -> None:
        self._cur, self._secrets, self._program_id, self._now = cur, secrets_, program_id, now
        self._keys: dict[str, AESGCM | None] = {}
        self._erased: set[str] = set()

    def _key(self, subject: str, make: bool) -> AESGCM | None:
        known = self._keys.get(subject)
        if known is not None or (subject in self._keys and not make) or subject in self._erased:
            return known
        if make:
            wrapped = self._secrets.wrap(self._program_id, subject, os.urandom(32))
            self._cur.execute(
                "INSERT INTO vault.subject_keys (program_id, subject, wrapped_key, created_at)"
                " VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
                (self._program_id, subject, wrapped, self._now),
            )
        self._cur.execute(
            "SELECT wrapped_key FROM vault.subject_keys WHERE program_id = %s AND subject = %s",
            (self._program_id, subject),
        )
        row = self._cur.fetchone()
        key = self._keys[subject] = self._opened(subject, row[0]) if row else None
        return key

    def _opened(self, subject: str, wrapped: bytes) -> AESGCM | None:
        if not wrapped:
            self._erased.add(subject)
            return None
        return AESGCM(self._secrets.unwrap(self._program_id, subject, wrapped))

    def load(self, subjects: Iterable[str]) -> None:
        """Read the keys of many subjects at once, for unsealing something of each."""
        wanted = [subject for subject in subjects if subject not in self._keys]
        self._keys.update(dict.fromkeys(wanted))
        self._cur.execute(
            "SELECT subject, wrapped_key FROM vault.subject_keys WHERE program_id = %s AND subject = ANY(%s)",
            (self._program_id, wanted),
        )
        self._keys.update((subject, self._opened(subject, wrapped)) for subject, wrapped in self._cur)

    def sealer(self, subject: str) -> AESGCM | None:
        """The subject's key, made if there is none: for sealing many texts. None for an erased subject, of which
        nothing is kept."""
        return self._key(subject, make=True)

    def seal(self, subject: str, key: str, field: str, text: str) -> str:
        """Text as base64 ciphertext bound to a stream key and a field; '' stays '', and of an erased subject nothing
        is kept but the word ERASED."""
        if not text:
            return ""
        cipher = self.sealer(subject)
        return ERASED if cipher is None else seal_with(cipher, key, field, text.encode())

    def unseal(self, subject: str, key: str, field: str, sealed: str) -> str | None:
        """The text again; None once the subject's key is erased, or when the ciphertext was moved or changed."""
        if not sealed:
            return ""
        cipher = self._key(subject, make=False)
        if cipher is None or sealed == ERASED:
            return None
        raw = base64.b64decode(sealed)
        try:
            plain = cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], f"{key}\n{field}".encode())
        except InvalidTag:
            return None
        return plain.decode()

    def erase(self, subject: str) -> None:
        """Destroy a subject's key, for good once the transaction is committed."""
        erase_subject(self._cur, self._program_id, subject, self._now)
        self._keys[subject] = None
        self._erased.add(subject)


def seal_with(cipher: AESGCM, key: str, field: str, plain: bytes) -> str:
    """base64(nonce || AES-GCM ciphertext), with the stream key and field as associated data."""
    nonce = os.urandom(NONCE_BYTES)
    return base64.b64encode(nonce + cipher.encrypt(nonce, plain, f"{key}\n{field}".encode())).decode()


def erase_subject(cur: Rows, program_id: UUID, subject: str, at: datetime | None = None) -> bool:
    """Destroy a subject's data key, and leave the row that keeps another from being made. True if there was a key.

    at: the instant of the erasure, now unless said. Ends in that row also while somebody makes the subject's first key.
    """
    found = False
    while True:
        cur.execute(
            "DELETE FROM vault.subject_keys WHERE program_id = %s AND subject = %s AND wrapped_key <> ''",
            (program_id, subject),
        )
        found = found or cur.rowcount > 0
        # waits for whoever is just making a key, and is then told that there is a row
        cur.execute(
            "INSERT INTO vault.subject_keys (program_id, subject, wrapped_key, created_at) VALUES (%s, %s, '', %s)"
            " ON CONFLICT DO NOTHING",
            (program_id, subject, at or datetime.now(UTC)),
        )
        if cur.rowcount or not alive_keys(cur, program_id, [subject]):
            return found


def alive_keys(cur: Rows, program_id: UUID, subjects: Iterable[str]) -> list[str]:
    """Those of some subjects that have a key."""
    cur.execute(
        "SELECT subject FROM vault.subject_keys WHERE program_id = %s AND subject = ANY(%s) AND wrapped_key <> ''"
        " ORDER BY subject",
        (program_id, list(subjects)),
    )
    return [subject for (subject,) in cur]
