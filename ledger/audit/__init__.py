"""Proof: sealing the logs, exporting them, and a second witness that trusts nothing of the first."""
