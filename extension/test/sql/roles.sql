-- Who may use which engine, with which key.
\set SHOW_CONTEXT never

-- Without USAGE on the server, nothing; the hint says what an administrator does.
SET ROLE pgml_other;
SELECT pgml.chat_completion(ask('echo', 'hi'));
SELECT pgml.chat_completion_stream(ask('echo', 'hi'));
SELECT pgml.transform('{"task": "text-generation", "model": "echo"}'::jsonb, inputs => ARRAY['hi']);
RESET ROLE;
-- Names that need quotes get them.
CREATE ROLE "pgml Ann";
CREATE SERVER "The ""engine""" FOREIGN DATA WRAPPER pgml OPTIONS (base_url 'http://127.0.0.1:1/v1');
INSERT INTO pgml.models (name, server, engine_model) VALUES ('quoted', 'The "engine"', 'echo');
SET ROLE "pgml Ann";
SELECT pgml.chat_completion(ask('quoted', 'hi'));
RESET ROLE;
DELETE FROM pgml.models WHERE name = 'quoted';
DROP SERVER "The ""engine""";
DROP ROLE "pgml Ann";
-- With it, all; it can be taken away again, within a session that has used it.
SET ROLE pgml_app;
SELECT content(pgml.chat_completion(ask('echo', 'hi')));
RESET ROLE;
REVOKE USAGE ON FOREIGN SERVER engine FROM pgml_app;
SET ROLE pgml_app;
SELECT (raised($$SELECT pgml.chat_completion(ask('echo', 'hi'))$$)).code;
RESET ROLE;
-- It can come from a role that one is a member of, or from PUBLIC.
CREATE ROLE pgml_team;
GRANT USAGE ON FOREIGN SERVER engine TO pgml_team;
GRANT pgml_team TO pgml_app;
SET ROLE pgml_app;
SELECT content(pgml.chat_completion(ask('echo', 'as a member')));
RESET ROLE;
REVOKE USAGE ON FOREIGN SERVER engine FROM pgml_team;
DROP ROLE pgml_team;
GRANT USAGE ON FOREIGN SERVER engine TO PUBLIC;
SET ROLE pgml_other;
SELECT content(pgml.chat_completion(ask('echo', 'as anybody')));
RESET ROLE;
REVOKE USAGE ON FOREIGN SERVER engine FROM PUBLIC;
GRANT USAGE ON FOREIGN SERVER engine TO pgml_app;

-- An ordinary role changes neither models, nor servers, nor keys of others; EXECUTE can be taken from it.
SET ROLE pgml_app;
\set VERBOSITY terse
INSERT INTO pgml.models (name, server, engine_model) VALUES ('mine', 'engine', 'echo');
UPDATE pgml.models SET engine_model = 'path' WHERE name = 'echo';
DELETE FROM pgml.models;
CREATE SERVER mine FOREIGN DATA WRAPPER pgml OPTIONS (base_url 'http://127.0.0.1:1/v1');
ALTER SERVER engine OPTIONS (SET base_url 'http://127.0.0.1:1/v1');
CREATE USER MAPPING FOR PUBLIC SERVER engine OPTIONS (api_key 'stolen');
CREATE USER MAPPING FOR pgml_other SERVER engine OPTIONS (api_key 'stolen');
RESET ROLE;
BEGIN;
REVOKE EXECUTE ON FUNCTION pgml.chat_completion(jsonb, text) FROM PUBLIC;
SET LOCAL ROLE pgml_app;
SELECT pgml.chat_completion(ask('echo', 'hi'));
ROLLBACK;

-- Keys: a role's own, or that of PUBLIC, or none. `key` answers with the Authorization header.
CREATE FUNCTION key() RETURNS text LANGUAGE sql RETURN content(pgml.chat_completion(ask('key', '')));
GRANT USAGE ON FOREIGN SERVER engine TO pgml_other;
SELECT key();
CREATE USER MAPPING FOR PUBLIC SERVER engine OPTIONS (api_key 'of all');
CREATE USER MAPPING FOR pgml_app SERVER engine OPTIONS (api_key 'of the app');
SELECT key();
SET ROLE pgml_app;
SELECT key();
SET ROLE pgml_other;
SELECT key();
RESET ROLE;
ALTER USER MAPPING FOR pgml_app SERVER engine OPTIONS (SET api_key 'of the app, new');
SET ROLE pgml_app;
SELECT key();
-- A role that may use an engine may give it a key of its own.
DROP USER MAPPING FOR pgml_app SERVER engine;
SELECT key();
CREATE USER MAPPING FOR CURRENT_USER SERVER engine OPTIONS (api_key 'my own');
SELECT key();
-- A mapping without a key says that none is to be sent.
ALTER USER MAPPING FOR CURRENT_USER SERVER engine OPTIONS (DROP api_key);
SELECT key();
ALTER USER MAPPING FOR CURRENT_USER SERVER engine OPTIONS (ADD api_key 'my own');
RESET ROLE;

-- Nobody reads another's key: not in the catalogs, and not in an error in which the engine tells it.
SET ROLE pgml_other;
SELECT srvname, usename, umoptions FROM pg_user_mappings ORDER BY usename;
SELECT umoptions FROM pg_user_mapping;
SELECT pgml.chat_completion(ask('error-401', ''));
RESET ROLE;
SET ROLE pgml_app;
SELECT srvname, usename, umoptions FROM pg_user_mappings ORDER BY usename;
SELECT pgml.chat_completion(ask('error-401', ''));
RESET ROLE;
-- A key that HTTP cannot carry is not sent, and not told.
ALTER USER MAPPING FOR pgml_app SERVER engine OPTIONS (SET api_key E'secret\r\nX-Other: 1');
SET ROLE pgml_app;
SELECT key();
SELECT pgml.chat_completion(ask('key', '', '{"chat_template": "{{ bos_token }}"}'));
RESET ROLE;

-- A SECURITY DEFINER function lends both the right and the key of its owner.
CREATE FUNCTION lent(question text) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
    RETURN public.content(pgml.chat_completion(public.ask(question, '')));
ALTER FUNCTION lent(text) OWNER TO pgml_app;
DROP USER MAPPING FOR PUBLIC SERVER engine;
ALTER USER MAPPING FOR pgml_app SERVER engine OPTIONS (SET api_key 'of the app');
REVOKE USAGE ON FOREIGN SERVER engine FROM pgml_other;
SET ROLE pgml_other;
SELECT lent('key');
SELECT pgml.chat_completion(ask('key', ''));
RESET ROLE;
DROP USER MAPPING FOR pgml_app SERVER engine;
DROP FUNCTION lent;
DROP FUNCTION key;
