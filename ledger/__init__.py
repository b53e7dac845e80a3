"""The commission ledger: an append-only, double-entry record of what affiliates earned and were paid."""
