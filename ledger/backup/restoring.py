"""Restoring a backup into an empty database, which may serve only after it has proven itself.

While it lasts the schema `restoring` stands in the database, and nobody serves from one that has it. What fails or is
interrupted leaves an empty database, or one that the same command empties and begins again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psycopg

from ledger import erasing
from ledger.application import CommissionLedger
from ledger.audit import kept
from ledger.backup import manifest, proof, tools
from ledger.backup.manifest import LEDGER_DUMP, VAULT_DUMP, BackupRefused, Connection, Manifest, Progress
from ledger.desk import Meta
from ledger.domain.restore import Loss, RecordRestore
from ledger.service import erased_subjects_file, home_of, known_positions_file, sealed_checkpoints_file
from ledger.store import erased, known, migrate
from ledger.store.database import Database, make_pool, open_database
from ledger.store.vault import MASTER_KEY_FILE, Secrets, erase_subject, load_master_key

# One restore at a time; a number of our own beside those of the store's advisory locks.
LOCK = (4919, 30)
SETTINGS = ("SET statement_timeout = 0", "SET search_path = public, pg_temp", "SET TimeZone = 'UTC'")
LOGS = ("books", "traffic")


class Restored(NamedTuple):
    """A program that was restored. positions: log → the last one that the backup held; lost: accepted losses;
    recorded_at: the position of BooksRestored, 0 for a program whose books are empty; erased: the subjects whose keys,
    if the backup held any, were not restored."""

    program: str
    positions: dict[str, int]
    lost: list[Loss]
    recorded_at: int
    erased: list[str] = []


class Choice(NamedTuple):
    """How to restore. vault: another backup's directory to take the keys of personal data from (a newer one, from
    which those erased since are gone); with_vault: whether to restore such keys at all; accept_loss: go on though more
    is known than the backup has."""

    vault: Path | None = None
    with_vault: bool = True
    accept_loss: bool = False


def restore(
    env: Mapping[str, str],
    directory: Path,
    choice: Choice,
    meta: Meta,
    progress: Progress = lambda *_: None,
) -> list[Restored]:
    """Restore a backup into the database that the environment names, which must be empty.

    The files are checked, the rows proven against the manifest and the known positions, the books against their log,
    and the keys of erased subjects destroyed; then every program records BooksRestored, which blocks its payouts, and
    the erasures that it lacks. Raises BackupRefused, StartupRefused,
    MigrationError, MasterKeyMissing, EmbeddedServerError, psycopg.Error, OSError.
    """
    said = manifest.read(directory)
    _refuse_newer_code(said)
    files = [manifest.check_file(directory, said, LEDGER_DUMP, progress)]
    keys = _vault_file(directory, said, choice, progress)
    files += [keys] if keys is not None else []
    path = known_positions_file(env)
    was_known = known.read(path)
    sealed_file = sealed_checkpoints_file(env)
    losses = _losses(said, was_known, kept.read(sealed_file), choice.accept_loss)
    list_ = erased_subjects_file(env)
    was_erased = erased.read(list_)
    if keys is not None:
        _refuse_without_master_key(env)
    with open_database(env) as database, _emptied(database) as owner:
        _load(env, database, owner, said, files, progress)
        secrets = Secrets(load_master_key(home_of(env), env))
        if keys is not None:
            proof.prove_master_key(owner, secrets, [(p.program, p.program_id) for p in said.programs])
        with owner.transaction():
            proof.prove_rows(owner, said, progress)
            _refuse_other_history(owner, was_known)
        assert database.owner_url is not None
        migrate.migrate(database.owner_url)
        with owner.transaction():
            gone = _erase_again(owner, said, was_erased)
        with make_pool(database.app_url, min_size=1, max_size=4, name="ledger-restore") as pool:
            proof.prove_books(pool, owner, said, progress)
            ledger = CommissionLedger(pool, secrets)
            restored = [one._replace(erased=gone[one.program]) for one in _record(ledger, said, losses, meta)]
            for one in restored:
                if one.recorded_at:
                    subjects = was_erased.programs.get(one.program, {})
                    erasing.reapply(ledger, one.program, {s: subjects[s].ground for s in subjects}, meta)
                    if list_ is not None:
                        erasing.note_erased(ledger, one.program, list_)
        if losses:
            assert path is not None
            with owner.transaction(), owner.cursor() as cur:
                known.accept(path, known.latest(cur), losses)
            if sealed_file is not None and sealed_file.exists():
                kept.forget_beyond(sealed_file, _ends(said))
        owner.execute("DROP SCHEMA restoring")
    return restored


# --- before anything is touched ----------------------------------------------------------------------------


def _refuse_newer_code(said: Manifest) -> None:
    ours = {migration.name for migration in migrate.load(migrate.DIRECTORY)}
    if said.migration not in ours:
        raise BackupRefused(f"the backup has migration {said.migration}, which this version does not: use a newer one")


def _vault_file(directory: Path, said: Manifest, choice: Choice, progress: Progress) -> Path | None:
    if not choice.with_vault:
        return None
    if choice.vault is not None:
        return manifest.check_file(choice.vault, manifest.read(choice.vault), VAULT_DUMP, progress)
    return manifest.check_file(directory, said, VAULT_DUMP, progress) if VAULT_DUMP in said.files else None


def _refuse_without_master_key(env: Mapping[str, str]) -> None:
    """A fresh home would make a key of its own, which opens nothing of what is restored."""
    home = home_of(env)
    given = env.get("LEDGER_MASTER_KEY") or env.get("LEDGER_MASTER_KEY_FILE")
    if not given and home is not None and not (home / MASTER_KEY_FILE).exists():
        raise BackupRefused(
            f"put the master key that belongs to this backup at {home / MASTER_KEY_FILE} first (or set"
            " LEDGER_MASTER_KEY). If it is lost, --without-vault restores the money without the names"
        )


def _ends(said: Manifest) -> dict[tuple[str, str], int]:
    """(program, log) → the last position in the backup."""
    return {(p.program, log): end.position for p in said.programs for log, end in p.logs.items()}


def _losses(
    said: Manifest, was_known: known.KnownPositions | None, was_sealed: kept.KeptCheckpoints, accept: bool
) -> list[known.AcceptedLoss]:
    """What is known, or was sealed, behind the end of the backup. Raises BackupRefused unless that is accepted."""
    ends = {(p.program, log): end for p in said.programs for log, end in p.logs.items()}
    beyond: dict[tuple[str, str], tuple[int, datetime]] = {}
    for program, log, one in was_known.each() if was_known else ():
        end = ends.get((program, log))
        if end is not None and one.position == end.position and one.leaf_hash != end.leaf_hash:
            raise BackupRefused(_other_history(program, log, one, end.leaf_hash))
        beyond[program, log] = (one.position, one.recorded_at)
    for name, sealed in was_sealed.logs.items():
        where = kept.program_and_log(name)
        beyond[where] = max(beyond.get(where, (0, sealed.sealed_at)), (sealed.size, sealed.sealed_at))
    now, found = datetime.now(UTC), []
    for (program, log), (position, at) in sorted(beyond.items()):
        last = _ends(said).get((program, log), 0)
        if position <= last:
            continue
        if not accept:
            raise BackupRefused(
                f"this backup is older than what is known: program {program}, {log}: position {position} is known"
                f" ({at:%Y-%m-%dT%H:%M:%SZ}), the backup ends at {last}. Restore a newer one, or go on"
                " with --accept-loss, which is recorded in the books"
            )
        # a restore of this same backup that was killed may have rewritten the file already
        accepted = was_known.accepted_losses if was_known else []
        before = [x.lost_to for x in accepted if (x.program, x.log, x.restored) == (program, log, last)]
        found.append(known.AcceptedLoss(program, log, last, max([position, *before]), now))
    return found


def _other_history(program: str, log: str, one: known.Known, leaf: str) -> str:
    return (
        f"this backup has another history than what is known: program {program}, {log}: position {one.position} is"
        f" known with leaf hash {one.leaf_hash}, the backup has {leaf} there"
    )


def _refuse_other_history(owner: Connection, was_known: known.KnownPositions | None) -> None:
    """What the backup has must be what is known; what it lacks was accepted before."""
    if was_known is None:
        return
    with owner.cursor() as cur:
        for other in known.contradictions(cur, was_known):
            if other.found is not None:
                raise BackupRefused(_other_history(other.program, other.log, other.known, other.found))


# --- the database ------------------------------------------------------------------------------------------


@contextmanager
def _emptied(database: Database) -> Iterator[Connection]:
    """The owner's connection to an empty database with the schema `restoring`; emptied again if the restore fails.
    Raises BackupRefused."""
    if database.owner_url is None:
        raise BackupRefused("LEDGER_OWNER_URL is needed: the tables are made by the role that owns them")
    with psycopg.connect(database.owner_url, autocommit=True, connect_timeout=10) as owner:
        for setting in SETTINGS:
            owner.execute(setting.encode())
        if not _taken(owner, LOCK):
            raise BackupRefused("another restore into this database is running")
        owner.execute(manifest.QUERIES["end_orphans"], {"name": tools.session_name("pg_restore")})
        # a verb that starts meanwhile on the embedded server must not make tables of its own
        if not _taken(owner, migrate.LOCK):
            raise BackupRefused("migrations are being applied to this database: it is not empty")
        row = owner.execute(manifest.QUERIES["select_what_is_there"]).fetchone()
        assert row is not None
        unfinished, tables, owns = row
        if unfinished:
            _empty(owner, owns)
        elif tables:
            raise BackupRefused(
                f"this database has {tables} tables and views: a backup is restored into an empty one. Choose a new"
                " LEDGER_HOME with the master key in it (any other verb has made this one's tables), or a database"
                " made as in docs/roles.sql"
            )
        owner.execute("CREATE SCHEMA restoring")
        try:
            yield owner
        except BaseException:
            with suppress(psycopg.Error):
                _empty(owner, owns)
            raise


def _taken(owner: Connection, lock: tuple[int, int]) -> bool:
    row = owner.execute("SELECT pg_try_advisory_lock(%s, %s)", lock).fetchone()
    return bool(row and row[0])


def _empty(owner: Connection, owns: bool) -> None:
    """Drop what an unfinished restore brought. Only as the database's owner: another role's own rights on the
    database would go too."""
    if not owns:
        raise BackupRefused("an earlier restore into this database did not end: make the database anew, and repeat")
    owner.execute("DROP OWNED BY CURRENT_USER CASCADE")


def _load(
    env: Mapping[str, str],
    database: Database,
    owner: Connection,
    said: Manifest,
    files: list[Path],
    progress: Progress,
) -> None:
    """The dumps' rows, each dump in one transaction."""
    assert database.owner_url is not None
    tool = tools.find("pg_restore", env, owner.info.server_version // 10_000, said.tool_major)

    def watch() -> None:
        row = owner.execute(manifest.QUERIES["select_database_size"]).fetchone()
        progress("bytes in the database", row[0] if row else 0, None)

    for path in files:
        arguments = ["--no-owner", "--no-comments", "--single-transaction", str(path)]
        tools.run(tool, database.owner_url, arguments, watch)
    owner.execute("SELECT pg_advisory_unlock(%s, %s)", migrate.LOCK)
    owner.execute("ANALYZE")  # without statistics the first look-ups read whole logs


def _erase_again(owner: Connection, said: Manifest, was_erased: erased.ErasedSubjects) -> dict[str, list[str]]:
    """Destroy the keys that the backup brought of subjects that its own log, or the list outside, says are erased.
    Returns program → those subjects."""
    gone: dict[str, list[str]] = {}
    with owner.cursor() as cur:
        for program in said.programs:
            subjects = {*erasing.erased_in_log(cur, program.program_id), *was_erased.programs.get(program.program, {})}
            gone[program.program] = sorted(subjects)
            for subject in gone[program.program]:
                erase_subject(cur, program.program_id, subject)
    return gone


def _record(ledger: CommissionLedger, said: Manifest, losses: list[known.AcceptedLoss], meta: Meta) -> list[Restored]:
    """BooksRestored in every program that has books."""
    found = []
    for program in said.programs:
        ends = {log: program.logs[log].position for log in LOGS}
        lost = [Loss(x.log, x.restored + 1, x.lost_to) for x in losses if x.program == program.program]
        at = 0
        if ends["books"]:
            command = RecordRestore(
                position=ends["books"],
                traffic_position=ends["traffic"],
                backup_created_at=said.created_at,
                lost=lost,
            )
            at = ledger.execute(program.program, command, meta).position
        found.append(Restored(program.program, ends, lost, at))
    return found
