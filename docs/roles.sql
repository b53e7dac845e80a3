-- The roles and the database for a PostgreSQL of your own (15 or newer). Run it once, as a superuser or as a role
-- that may create roles and databases:
--
--   psql -v owner_password=… -v app_password=… -v reader_password=… -d postgres -f docs/roles.sql
--
-- Then:
--   DATABASE_URL=postgresql://ledger_app:…@host/ledger            what the service runs as
--   LEDGER_OWNER_URL=postgresql://ledger_owner:…@host/ledger      migrations only; not needed to serve
--   postgresql://ledger_reader:…@host/ledger                      BI: the views of the schema reader
--
-- The service refuses to start as a superuser, as an owner of tables, or as a role that bypasses row security.
\set ON_ERROR_STOP on

-- Owns every table; runs migrations.
CREATE ROLE ledger_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'owner_password';
-- Serves: reads, and appends what the migrations allow it to.
CREATE ROLE ledger_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'app_password';
-- Reads the views of the schema reader: one program, or one affiliate of it, at a time.
CREATE ROLE ledger_reader LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'reader_password';

-- Only a member of the owner may hand it a database; a no-op for superusers.
GRANT ledger_owner TO CURRENT_USER;
CREATE DATABASE ledger OWNER ledger_owner ENCODING 'UTF8' TEMPLATE template0;
REVOKE CONNECT ON DATABASE ledger FROM PUBLIC;
GRANT CONNECT ON DATABASE ledger TO ledger_owner, ledger_app, ledger_reader;
