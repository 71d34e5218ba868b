-- Requests and answers are Unicode, so a database must be able to hold that.
\set VERBOSITY sqlstate
CREATE DATABASE pgml_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;
\c pgml_latin1
SET client_encoding = 'UTF8';
CREATE EXTENSION pgml;
SELECT 'on it goes' AS after;

-- In SQL_ASCII, texts are what clients say they are: Unicode, as far as pgml is concerned.
CREATE DATABASE pgml_ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0;
\c pgml_ascii
SET client_encoding = 'UTF8';
CREATE EXTENSION pgml;
\getenv port PGML_TEST_PORT
\set base_url 'http://127.0.0.1:' :port '/v1'
CREATE SERVER engine FOREIGN DATA WRAPPER pgml OPTIONS (base_url :'base_url');
INSERT INTO pgml.models (name, server, engine_model) VALUES ('größe', 'engine', 'echo');
SELECT c ->> 'model' AS model, c #>> '{choices,0,message,content}' AS content
FROM pgml.chat_completion('{"model": "größe", "messages": [{"role": "user", "content": "Straße nach Malmö"}]}') AS c;
-- What is not is refused.
SELECT pgml.chat_completion(convert_from('{"model": "größe", "messages": [{"role": "user", "content": "\344"}]}'::bytea, 'SQL_ASCII')::jsonb);
SELECT pgml.chat_completion(convert_from('{"model": "größe", "messages": [{"role": "user", "content": "\344"}]}'::bytea, 'SQL_ASCII'));
SELECT pgml.chat_completion_stream(convert_from('{"model": "größe", "messages": [{"role": "user", "content": "\344"}]}'::bytea, 'SQL_ASCII')::json);
SELECT pgml.transform(convert_from('\344'::bytea, 'SQL_ASCII'), inputs => ARRAY['x']);
SELECT pgml.transform('{"task": "text-generation", "model": "größe"}'::jsonb, '{}', ARRAY['x', convert_from('\344'::bytea, 'SQL_ASCII')]);
SELECT pgml.transform_stream('{"task": "text-generation", "model": "größe"}'::jsonb, '{}', convert_from('\344'::bytea, 'SQL_ASCII'));
SELECT pgml.engine_options(ARRAY[convert_from('api_key=\344'::bytea, 'SQL_ASCII')], 'pg_user_mapping'::regclass);
\c pgml_regression
DROP DATABASE pgml_latin1;
DROP DATABASE pgml_ascii;
