"""Reports for auditors: each says its rule, its code, what it looked at, and what it adds up to."""
