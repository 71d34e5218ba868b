-- What CREATE EXTENSION makes, and what DROP EXTENSION takes away again.

-- The functions: names, arguments and defaults, results.
\pset tuples_only on
\pset format unaligned
SELECT format(E'%s.%s(%s)\n    → %s', pronamespace::regnamespace, proname,
              pg_get_function_arguments(oid), pg_get_function_result(oid))
FROM pg_proc
WHERE pronamespace = 'pgml'::regnamespace
ORDER BY proname, proargtypes[0]::regtype::text DESC, proargtypes[2]::regtype::text DESC;
\pset format aligned
\pset tuples_only off

-- Volatile, called late and seldom, by the leader only; NULL in gives NULL out.
SELECT proname, count(*), provolatile, proparallel, procost, prorows, proisstrict, prosecdef, proleakproof
FROM pg_proc
WHERE pronamespace = 'pgml'::regnamespace AND proname <> 'engine_options'
GROUP BY proname, provolatile, proparallel, procost, prorows, proisstrict, prosecdef, proleakproof
ORDER BY proname;

-- All else: a foreign data wrapper with a validator, a table of models, and rights.
SELECT fdwname, fdwhandler::regproc, fdwvalidator::regprocedure, fdwacl FROM pg_foreign_data_wrapper;
SELECT attname, format_type(atttypid, atttypmod), attnotnull
FROM pg_attribute WHERE attrelid = 'pgml.models'::regclass AND attnum > 0 ORDER BY attnum;
SELECT has_schema_privilege('pgml_other', 'pgml', 'USAGE') AS "use schema",
       has_schema_privilege('pgml_other', 'pgml', 'CREATE') AS "create in schema",
       has_table_privilege('pgml_other', 'pgml.models', 'SELECT') AS "see models",
       has_table_privilege('pgml_other', 'pgml.models', 'INSERT, UPDATE, DELETE, TRUNCATE') AS "change models",
       has_foreign_data_wrapper_privilege('pgml_other', 'pgml', 'USAGE') AS "make servers";
SELECT obj_description('pgml.models'::regclass);
SELECT count(*) FILTER (WHERE obj_description(oid) IS NULL) AS "functions without a comment"
FROM pg_proc WHERE pronamespace = 'pgml'::regnamespace AND proname ~ '^chat';

-- Names are not empty, and lead to one engine each.
\set VERBOSITY terse
INSERT INTO pgml.models (name, server, engine_model) VALUES ('', 'engine', 'echo');
INSERT INTO pgml.models (name, server, engine_model) VALUES ('m', 'engine', '');
INSERT INTO pgml.models (name, server, engine_model) VALUES ('echo', 'engine', 'echo');

-- The setting, known once the library is loaded.
LOAD 'pgml-3';
SELECT name, setting, context, vartype, short_desc, extra_desc FROM pg_settings WHERE name LIKE 'pgml.%';

-- Only a superuser installs it.
SET ROLE pgml_other;
DROP EXTENSION pgml;
RESET ROLE;

-- Engines depend on it; with them, all of it goes, and comes again in the same session.
BEGIN;
DROP EXTENSION pgml;
ROLLBACK;
BEGIN;
SELECT content(pgml.chat_completion(ask('echo', 'before')));
SET LOCAL client_min_messages = warning;
DROP EXTENSION pgml CASCADE;
SELECT count(*) FROM pg_namespace WHERE nspname = 'pgml';
SELECT count(*) FROM pg_foreign_server;
CREATE EXTENSION pgml;
\getenv port PGML_TEST_PORT
\set base_url 'http://127.0.0.1:' :port '/v1'
CREATE SERVER engine FOREIGN DATA WRAPPER pgml OPTIONS (base_url :'base_url');
INSERT INTO pgml.models (name, server, engine_model) VALUES ('echo', 'engine', 'echo');
SELECT pgml.chat_completion(ask('echo', 'again')) #>> '{choices,0,message,content}' AS content;
ROLLBACK;
SELECT content(pgml.chat_completion(ask('echo', 'as before')));
