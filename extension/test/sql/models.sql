-- Which engine a model's name leads to.
\set SHOW_CONTEXT never

-- A name of one's own, for the engine's name. Answers carry the caller's.
INSERT INTO pgml.models (name, server, engine_model) VALUES ('meta-llama/Meta-Llama-3-8B-Instruct', 'engine', 'echo');
SELECT c ->> 'model' AS model, content(c)
FROM pgml.chat_completion(ask('meta-llama/Meta-Llama-3-8B-Instruct', 'hi')) AS c;

-- A revision has a row of its own, or else that of the model.
INSERT INTO pgml.models (name, server, engine_model) VALUES
    ('story', 'engine', 'echo'),
    ('story@v2', 'engine', 'path');
SELECT revision, c ->> 'model' AS model, content(c)
FROM (VALUES (NULL), ('v1'), ('v2')) AS r(revision),
LATERAL pgml.chat_completion(ask('story', 'the first', jsonb_build_object(
    'model', jsonb_build_object('model', 'story', 'revision', revision, 'device_map', 'auto', 'token', 'secret')))) AS c
ORDER BY revision NULLS FIRST;
-- As a plain name too.
SELECT content(pgml.chat_completion(ask('story@v2', '')));
DELETE FROM pgml.models WHERE name LIKE 'story%';
-- The options of a model object stay here: an engine gets the model's name, and no token.
SELECT content(pgml.chat_completion(ask('', '', '{"model": {"model": "request", "token": "secret", "torch_dtype": "bfloat16"}}')));

-- Unknown models. The hint has the names that the caller can call, and no others.
BEGIN;
\getenv port PGML_TEST_PORT
\set base_url 'http://127.0.0.1:' :port '/v1'
CREATE SERVER second FOREIGN DATA WRAPPER pgml OPTIONS (base_url :'base_url');
DELETE FROM pgml.models WHERE name NOT IN ('echo', 'path');
INSERT INTO pgml.models (name, server, engine_model) VALUES
    ('it''s mine', 'second', 'echo'), ('gone', 'nowhere', 'echo');
SAVEPOINT s;
SELECT pgml.chat_completion(ask('ech', 'hi'));
ROLLBACK TO s;
SELECT pgml.chat_completion_stream(ask('Echo', 'hi'));
ROLLBACK TO s;
SET LOCAL ROLE pgml_app;
SELECT pgml.chat_completion(ask('ech"o', 'hi'));
ROLLBACK TO s;
SET LOCAL ROLE pgml_other;
SELECT pgml.chat_completion(ask('ech', 'hi'));
ROLLBACK TO s;
-- A row without its server, and a server of another kind.
SELECT pgml.chat_completion(ask('gone', 'hi'));
ROLLBACK TO s;
CREATE FOREIGN DATA WRAPPER other;
CREATE SERVER nowhere FOREIGN DATA WRAPPER other OPTIONS (base_url 'http://127.0.0.1/v1');
SELECT pgml.chat_completion(ask('gone', 'hi'));
ROLLBACK;

-- pgml.default_server takes all other names, as they are.
SET pgml.default_server = 'engine';
SELECT content(pgml.chat_completion(ask('echo', 'a row comes first')));
SELECT pgml.chat_completion(ask('some/model', ''), request_id => 'mine');
SELECT pgml.chat_completion(ask('', '', '{"model": {"model": "some/model", "revision": "v2"}}'), request_id => 'mine');
SET pgml.default_server = 'nowhere';
SELECT pgml.chat_completion(ask('some/model', ''), request_id => 'mine');
SET pgml.default_server = '';
\set VERBOSITY terse
SELECT pgml.chat_completion(ask('some/model', ''), request_id => 'mine');
RESET pgml.default_server;

-- A right to the server is needed there too, and only a superuser chooses the server.
\set VERBOSITY default
ALTER DATABASE pgml_regression SET pgml.default_server = 'engine';
\c - pgml_other
SHOW pgml.default_server;
SELECT pgml.chat_completion(ask('some/model', ''), request_id => 'mine');
SET pgml.default_server = '';
SELECT set_config('pgml.default_server', '', false);
ALTER ROLE pgml_other SET pgml.default_server = '';
\c - postgres
ALTER DATABASE pgml_regression RESET pgml.default_server;
-- Not even before the library is loaded, when Postgres does not know the setting yet.
\c - pgml_app
\set SHOW_CONTEXT never
SET pgml.default_server = 'engine';
SELECT (raised($$SELECT pgml.chat_completion(ask('some/model', ''))$$)).code;
SHOW pgml.default_server;
\c - postgres
