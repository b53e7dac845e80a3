"""Every vector of an export line, in the order in which they were written down: new ones come last."""

from __future__ import annotations

import export_rows
import export_rows_breaks
import export_rows_clicks
import export_rows_erasure
import export_rows_impressions
import export_rows_master
import export_rows_payees
import export_rows_payouts
import export_rows_plans
import export_rows_restore
import export_rows_shares
import export_rows_simulations
import export_rows_trees

ROWS = [
    *export_rows.ROWS,
    *export_rows_payees.ROWS,
    *export_rows_breaks.ROWS,
    *export_rows_restore.ROWS,
    *export_rows_payouts.ROWS,
    *export_rows_erasure.ROWS,
    *export_rows_trees.ROWS,
    *export_rows_master.ROWS,
    *export_rows_impressions.ROWS,
    *export_rows_plans.ROWS,
    *export_rows_shares.ROWS,
    *export_rows_clicks.ROWS,
    *export_rows_simulations.ROWS,
]
