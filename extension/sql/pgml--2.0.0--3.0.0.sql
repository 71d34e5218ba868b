-- From 2.0.0 to 3.0.0. Run by ALTER EXTENSION pgml UPDATE.
\echo Use "ALTER EXTENSION pgml UPDATE" to load this file. \quit

-- The extension now is in its own schema, which is no longer a member of it. As in a new
-- installation, DROP SCHEMA public CASCADE leaves it alone. There is no command for this:
-- ALTER EXTENSION SET SCHEMA is for relocatable extensions.
ALTER EXTENSION pgml DROP SCHEMA pgml;
UPDATE pg_catalog.pg_depend d
SET refobjid = n.oid
FROM pg_catalog.pg_extension e, pg_catalog.pg_namespace n
WHERE e.extname OPERATOR(pg_catalog.=) 'pgml'
  AND n.nspname OPERATOR(pg_catalog.=) 'pgml'
  AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
  AND d.objid OPERATOR(pg_catalog.=) e.oid
  AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass;
UPDATE pg_catalog.pg_extension e
SET extnamespace = n.oid
FROM pg_catalog.pg_namespace n
WHERE e.extname OPERATOR(pg_catalog.=) 'pgml' AND n.nspname OPERATOR(pg_catalog.=) 'pgml';

CREATE FUNCTION pgml.version() RETURNS text
    AS 'MODULE_PATHNAME', 'version_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgml.version() IS 'the version of the library that runs the functions of pgml';

-- A view's functions see the role that reads it, so each role sees its own.
CREATE VIEW pgml.callable_models AS
SELECT m.name, m.server, m.engine_model, m.created
FROM pgml.models m
JOIN pg_catalog.pg_foreign_server s ON s.srvname OPERATOR(pg_catalog.=) m.server
JOIN pg_catalog.pg_foreign_data_wrapper w
    ON w.oid OPERATOR(pg_catalog.=) s.srvfdw AND w.fdwname OPERATOR(pg_catalog.=) 'pgml'
WHERE pg_catalog.has_server_privilege(s.oid, 'USAGE');
COMMENT ON VIEW pgml.callable_models IS
    'the models that the current role can call: it has the right to use their servers';
GRANT SELECT ON pgml.callable_models TO PUBLIC;

-- The library has a new name.

CREATE OR REPLACE FUNCTION pgml.engine_options(options text[], catalog oid) RETURNS void
    AS 'MODULE_PATHNAME', 'engine_options_wrapper' LANGUAGE c STRICT;

CREATE OR REPLACE FUNCTION pgml.chat_completion(request jsonb, request_id text DEFAULT '') RETURNS json
    AS 'MODULE_PATHNAME', 'chat_completion_jsonb_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000;

CREATE OR REPLACE FUNCTION pgml.chat_completion_stream(
    request jsonb, batch boolean DEFAULT false, request_id text DEFAULT ''
) RETURNS SETOF json
    AS 'MODULE_PATHNAME', 'chat_completion_stream_jsonb_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000 ROWS 100;

CREATE OR REPLACE FUNCTION pgml.chat_completion(request json, request_id text DEFAULT '') RETURNS json
    AS 'MODULE_PATHNAME', 'chat_completion_text_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000;

CREATE OR REPLACE FUNCTION pgml.chat_completion_stream(
    request json, batch boolean DEFAULT false, request_id text DEFAULT ''
) RETURNS SETOF json
    AS 'MODULE_PATHNAME', 'chat_completion_stream_text_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000 ROWS 100;

CREATE OR REPLACE FUNCTION pgml.chat_completion(request text, request_id text DEFAULT '') RETURNS json
    AS 'MODULE_PATHNAME', 'chat_completion_text_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000;

CREATE OR REPLACE FUNCTION pgml.chat_completion_stream(
    request text, batch boolean DEFAULT false, request_id text DEFAULT ''
) RETURNS SETOF json
    AS 'MODULE_PATHNAME', 'chat_completion_stream_text_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000 ROWS 100;

CREATE OR REPLACE FUNCTION pgml.requests_in_flight() RETURNS TABLE (
    pid integer, role oid, database oid, request_id text, model text, started timestamptz, tokens bigint
)
    AS 'MODULE_PATHNAME', 'requests_in_flight_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED ROWS 10;

CREATE OR REPLACE FUNCTION pgml.transform(
    task text, args jsonb DEFAULT '{}', inputs text[] DEFAULT ARRAY[]::text[], cache boolean DEFAULT false
) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'transform_text_texts_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000;

CREATE OR REPLACE FUNCTION pgml.transform(
    task jsonb, args jsonb DEFAULT '{}', inputs text[] DEFAULT ARRAY[]::text[], cache boolean DEFAULT false
) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'transform_jsonb_texts_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000;

CREATE OR REPLACE FUNCTION pgml.transform(
    task text, args jsonb DEFAULT '{}', inputs jsonb[] DEFAULT ARRAY[]::jsonb[], cache boolean DEFAULT false
) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'transform_text_messages_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000;

CREATE OR REPLACE FUNCTION pgml.transform(
    task jsonb, args jsonb DEFAULT '{}', inputs jsonb[] DEFAULT ARRAY[]::jsonb[], cache boolean DEFAULT false
) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'transform_jsonb_messages_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000;

CREATE OR REPLACE FUNCTION pgml.transform_stream(
    task text, args jsonb DEFAULT '{}', input text DEFAULT '', cache boolean DEFAULT false
) RETURNS SETOF jsonb
    AS 'MODULE_PATHNAME', 'transform_stream_text_text_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000 ROWS 100;

CREATE OR REPLACE FUNCTION pgml.transform_stream(
    task jsonb, args jsonb DEFAULT '{}', input text DEFAULT '', cache boolean DEFAULT false
) RETURNS SETOF jsonb
    AS 'MODULE_PATHNAME', 'transform_stream_jsonb_text_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000 ROWS 100;

CREATE OR REPLACE FUNCTION pgml.transform_stream(
    task text, args jsonb DEFAULT '{}', inputs jsonb[] DEFAULT ARRAY[]::jsonb[], cache boolean DEFAULT false
) RETURNS SETOF jsonb
    AS 'MODULE_PATHNAME', 'transform_stream_text_messages_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000 ROWS 100;

CREATE OR REPLACE FUNCTION pgml.transform_stream(
    task jsonb, args jsonb DEFAULT '{}', inputs jsonb[] DEFAULT ARRAY[]::jsonb[], cache boolean DEFAULT false
) RETURNS SETOF jsonb
    AS 'MODULE_PATHNAME', 'transform_stream_jsonb_messages_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000 ROWS 100;
