"""Programs of other people that read what we sign and prove: sigstore (Apache-2.0) and pymerkle (GPL-3.0). They are
told nothing that is not in the proofs, and share no code with ours."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pymerkle
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pymerkle.core import _inclusion_path_layout
from pymerkle.proof import InclusionProof
from sigstore._internal.merkle import verify_merkle_inclusion
from sigstore._internal.rekor.checkpoint import SignedCheckpoint
from sigstore._internal.trust import Keyring, RekorKeyring
from sigstore._utils import KeyID
from sigstore.errors import VerificationError
from sigstore_models.common.v1 import PublicKey, PublicKeyDetails

from ledger.audit.notes import VerifierKey

Refused = (VerificationError, pymerkle.InvalidProof)


def sigstore_reads(note: str, key: VerifierKey) -> tuple[str, int, bytes]:
    """(origin, size, root) of a checkpoint that sigstore has found signed by a key. Raises Refused."""
    der = Ed25519PublicKey.from_public_bytes(key.public).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    public = PublicKey(raw_bytes=b64encode(der), key_details=PublicKeyDetails.PKIX_ED25519)
    signed = SignedCheckpoint.from_text(note)
    # sigstore finds the line by its first four bytes, and tries all keys of the ring
    signed.signed_note.verify(RekorKeyring(Keyring([public])), KeyID(key.key_id + bytes(28)))
    found = signed.checkpoint
    return found.origin, found.log_size, bytes.fromhex(found.log_hash)


def sigstore_accepts(entry: bytes, index: int, size: int, hashes: Sequence[bytes], root: bytes) -> None:
    """Check an inclusion proof as sigstore does. index: from 0. Raises Refused."""
    proof = SimpleNamespace(log_index=index, tree_size=size, hashes=list(hashes), root_hash=root)
    inner = SimpleNamespace(inclusion_proof=proof, canonicalized_body=entry)
    verify_merkle_inclusion(cast("Any", SimpleNamespace(_inner=inner)))


def pymerkle_accepts(leaf: bytes, index: int, size: int, hashes: Sequence[bytes], root: bytes) -> None:
    """The same as pymerkle does, which counts from 1 and begins the path with the leaf. Raises Refused."""
    rule, _ = _inclusion_path_layout(index + 1, size)
    proof = InclusionProof("sha256", True, size, index + 1, rule, [leaf, *hashes])
    pymerkle.verify_inclusion(leaf, root, proof, index=index + 1, size=size)


def pymerkle_tree(entries: Sequence[bytes]) -> Any:
    """pymerkle's tree over some entries."""
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    tree.append_entries(list(entries))
    return tree
