"""The store: embedded PostgreSQL, connections, migrations, and the log that everything is appended to."""
