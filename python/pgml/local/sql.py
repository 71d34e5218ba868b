r"""The SQL that ties PostgreSQL and the engines together, as scripts for psql.

psql quotes each `:'variable'` itself, and runs a query's result where \gexec follows it.
"""

from __future__ import annotations

import hashlib

from .home import DATABASE, ROLE

CREATE_DATABASE = rf"""
SELECT 'CREATE DATABASE {DATABASE}'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{DATABASE}') \gexec
"""  # noqa: S608 - a constant

CREATE_ROLE = f"""
CREATE ROLE {ROLE} LOGIN SUPERUSER CREATEDB CREATEROLE REPLICATION BYPASSRLS;
"""

CREATE_EXTENSION = """
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgml;
ALTER EXTENSION pgml UPDATE;
"""

# ALTER rather than DROP and CREATE: dropping the server would drop the grants on it. A row that an
# administrator has led elsewhere stays as it is, unless the model is being added by hand.
REGISTER_MODEL = r"""
BEGIN;
SELECT format(
    CASE WHEN EXISTS (SELECT FROM pg_foreign_server WHERE srvname = :'server')
    THEN 'ALTER SERVER %I OPTIONS (SET base_url %L, SET unix_socket %L)'
    ELSE 'CREATE SERVER %I FOREIGN DATA WRAPPER pgml OPTIONS (base_url %L, unix_socket %L)'
    END, :'server', 'http://localhost/v1', :'socket') \gexec
INSERT INTO pgml.models (name, server, engine_model) VALUES (:'model', :'server', :'engine_model')
ON CONFLICT (name) DO UPDATE SET server = excluded.server, engine_model = excluded.engine_model
    WHERE models.server = excluded.server OR :'replace'::boolean;
COMMIT;
"""


def foreign_server(model: str) -> str:
    """The name of the foreign server of a model's engine, short enough to be an identifier."""
    name = f"local:{model}"
    if len(name.encode()) <= 63:
        return name
    digest = hashlib.sha256(model.encode()).hexdigest()[:16]
    return name.encode()[:46].decode(errors="ignore") + "-" + digest
