-- The SQL surface of pgml. Run by CREATE EXTENSION pgml; the C names are in ../src.
\echo Use "CREATE EXTENSION pgml" to load this file. \quit

-- The control file names the schema, and Postgres creates it.

CREATE FUNCTION pgml.version() RETURNS text
    AS 'MODULE_PATHNAME', 'version_wrapper' LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pgml.version() IS 'the version of the library that runs the functions of pgml';

-- Engines are foreign servers ------------------------------------------------------------------

CREATE FUNCTION pgml.engine_options(options text[], catalog oid) RETURNS void
    AS 'MODULE_PATHNAME', 'engine_options_wrapper' LANGUAGE c STRICT;

CREATE FOREIGN DATA WRAPPER pgml VALIDATOR pgml.engine_options;
COMMENT ON FOREIGN DATA WRAPPER pgml IS
    'engines: any server that speaks OpenAI''s chat completion protocol';

CREATE TABLE pgml.models (
    name text PRIMARY KEY CHECK (name <> ''),
    server name NOT NULL,
    engine_model text NOT NULL CHECK (engine_model <> ''),
    created timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE pgml.models IS 'the models that can be called; several names may lead to one model';
COMMENT ON COLUMN pgml.models.name IS 'what a request calls the model; name@revision serves a request for that revision';
COMMENT ON COLUMN pgml.models.server IS 'the foreign server of the engine that runs it';
COMMENT ON COLUMN pgml.models.engine_model IS 'what that engine calls the model';
COMMENT ON COLUMN pgml.models.created IS 'when the model was added';
SELECT pg_catalog.pg_extension_config_dump('pgml.models', '');

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

-- Chat completions -----------------------------------------------------------------------------

-- Volatile: two calls give two answers. Costly: the planner should call them late and seldom.
-- Parallel restricted: rows are pushed to the client by the leader, which alone has one.

-- Three types of request: jsonb, and the two that keep the order of keys. A literal is a text.

CREATE FUNCTION pgml.chat_completion(request jsonb, request_id text DEFAULT '') RETURNS json
    AS 'MODULE_PATHNAME', 'chat_completion_jsonb_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000;
COMMENT ON FUNCTION pgml.chat_completion(jsonb, text) IS
    'an OpenAI chat.completion object for an OpenAI request body';

CREATE FUNCTION pgml.chat_completion_stream(
    request jsonb, batch boolean DEFAULT false, request_id text DEFAULT ''
) RETURNS SETOF json
    AS 'MODULE_PATHNAME', 'chat_completion_stream_jsonb_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000 ROWS 100;
COMMENT ON FUNCTION pgml.chat_completion_stream(jsonb, boolean, text) IS
    'chat.completion.chunk objects, pushed as they are made when called in the target list; with batch, those that are there at the same time come as one with the choices of all';

CREATE FUNCTION pgml.chat_completion(request json, request_id text DEFAULT '') RETURNS json
    AS 'MODULE_PATHNAME', 'chat_completion_text_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000;
COMMENT ON FUNCTION pgml.chat_completion(json, text) IS
    'an OpenAI chat.completion object for an OpenAI request body';

CREATE FUNCTION pgml.chat_completion_stream(
    request json, batch boolean DEFAULT false, request_id text DEFAULT ''
) RETURNS SETOF json
    AS 'MODULE_PATHNAME', 'chat_completion_stream_text_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000 ROWS 100;
COMMENT ON FUNCTION pgml.chat_completion_stream(json, boolean, text) IS
    'chat.completion.chunk objects, pushed as they are made when called in the target list; with batch, those that are there at the same time come as one with the choices of all';

CREATE FUNCTION pgml.chat_completion(request text, request_id text DEFAULT '') RETURNS json
    AS 'MODULE_PATHNAME', 'chat_completion_text_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000;
COMMENT ON FUNCTION pgml.chat_completion(text, text) IS
    'an OpenAI chat.completion object for an OpenAI request body';

CREATE FUNCTION pgml.chat_completion_stream(
    request text, batch boolean DEFAULT false, request_id text DEFAULT ''
) RETURNS SETOF json
    AS 'MODULE_PATHNAME', 'chat_completion_stream_text_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000 ROWS 100;
COMMENT ON FUNCTION pgml.chat_completion_stream(text, boolean, text) IS
    'chat.completion.chunk objects, pushed as they are made when called in the target list; with batch, those that are there at the same time come as one with the choices of all';

-- Who is being served --------------------------------------------------------------------------

CREATE FUNCTION pgml.requests_in_flight() RETURNS TABLE (
    pid integer, role oid, database oid, request_id text, model text, started timestamptz, tokens bigint
)
    AS 'MODULE_PATHNAME', 'requests_in_flight_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED ROWS 10;

CREATE VIEW pgml.stat_requests AS
SELECT r.pid, d.datname, a.rolname AS usename, r.request_id, r.model, r.started, r.tokens
FROM pgml.requests_in_flight() r
LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) r.database
LEFT JOIN pg_catalog.pg_roles a ON a.oid OPERATOR(pg_catalog.=) r.role;
COMMENT ON VIEW pgml.stat_requests IS
    'the requests in flight: one''s own, and for members of pg_read_all_stats those of all roles';

-- PostgresML's functions -----------------------------------------------------------------------

CREATE FUNCTION pgml.transform(
    task text, args jsonb DEFAULT '{}', inputs text[] DEFAULT ARRAY[]::text[], cache boolean DEFAULT false
) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'transform_text_texts_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000;

CREATE FUNCTION pgml.transform(
    task jsonb, args jsonb DEFAULT '{}', inputs text[] DEFAULT ARRAY[]::text[], cache boolean DEFAULT false
) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'transform_jsonb_texts_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000;

CREATE FUNCTION pgml.transform(
    task text, args jsonb DEFAULT '{}', inputs jsonb[] DEFAULT ARRAY[]::jsonb[], cache boolean DEFAULT false
) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'transform_text_messages_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000;

CREATE FUNCTION pgml.transform(
    task jsonb, args jsonb DEFAULT '{}', inputs jsonb[] DEFAULT ARRAY[]::jsonb[], cache boolean DEFAULT false
) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'transform_jsonb_messages_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000;

CREATE FUNCTION pgml.transform_stream(
    task text, args jsonb DEFAULT '{}', input text DEFAULT '', cache boolean DEFAULT false
) RETURNS SETOF jsonb
    AS 'MODULE_PATHNAME', 'transform_stream_text_text_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000 ROWS 100;

CREATE FUNCTION pgml.transform_stream(
    task jsonb, args jsonb DEFAULT '{}', input text DEFAULT '', cache boolean DEFAULT false
) RETURNS SETOF jsonb
    AS 'MODULE_PATHNAME', 'transform_stream_jsonb_text_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000 ROWS 100;

CREATE FUNCTION pgml.transform_stream(
    task text, args jsonb DEFAULT '{}', inputs jsonb[] DEFAULT ARRAY[]::jsonb[], cache boolean DEFAULT false
) RETURNS SETOF jsonb
    AS 'MODULE_PATHNAME', 'transform_stream_text_messages_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000 ROWS 100;

CREATE FUNCTION pgml.transform_stream(
    task jsonb, args jsonb DEFAULT '{}', inputs jsonb[] DEFAULT ARRAY[]::jsonb[], cache boolean DEFAULT false
) RETURNS SETOF jsonb
    AS 'MODULE_PATHNAME', 'transform_stream_jsonb_messages_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED COST 1000000 ROWS 100;

-- Rights ---------------------------------------------------------------------------------------

-- Who may call which engine is decided by USAGE on its foreign server, so the rest is open.
GRANT USAGE ON SCHEMA pgml TO PUBLIC;
GRANT SELECT ON pgml.models, pgml.callable_models, pgml.stat_requests TO PUBLIC;
