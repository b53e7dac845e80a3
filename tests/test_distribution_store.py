"""The store's tests once more, unchanged, on hash partitions: a stand-in for an engine distributed by program_id."""

from __future__ import annotations

import psycopg

# Fixtures and tests; `template` is what makes the others run on the stand-in.
from partitions import template  # noqa: F401
from support import scalar
from test_append_only import (  # noqa: F401
    app,
    reader,
    sold,
    test_a_reader_sees_one_program_or_one_affiliate_of_it,
    test_a_row_that_cannot_be_is_refused,
    test_even_the_owner_is_refused,
    test_the_app_role_cannot_change_the_log_or_the_journal,
)
from test_concurrency import (  # noqa: F401
    test_a_command_that_breaks_its_batch_takes_nobody_with_it,
    test_fifty_parallel_sends_of_one_key_are_one_event,
    test_good_and_bad_commands_of_one_batch_succeed_or_fail_alone,
)
from test_recorders import (  # noqa: F401
    TestFollowerRecorder,
    TestLogRecorder,
    TestNonInterleaving,
    TestStreamRecorder,
    program_log,
    test_a_stream_is_folded_through_the_librarys_repository,
)
from test_state_machine import test_the_end_does_not_depend_on_the_order_of_arrival, two_processes  # noqa: F401

from ledger.store.database import Database


def test_these_tests_run_on_partitions(database: Database) -> None:
    """Else the rest of this page would prove nothing."""
    with psycopg.connect(database.app_url) as conn:
        assert scalar(conn, "SELECT relkind FROM pg_class WHERE oid = 'book_events'::regclass") == "p"
