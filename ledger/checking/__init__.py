"""Checking a program: its logs against their hashes, and everything that follows from the logs against the logs."""

from ledger.checking.findings import CheckReport, Finding
from ledger.checking.run import CheckProgress, check_logs, check_program

__all__ = ["CheckProgress", "CheckReport", "Finding", "check_logs", "check_program"]
