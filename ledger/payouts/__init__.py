"""Rails and banks: payout files out, bank statements in. Files and formats only; nothing here reads the books."""
