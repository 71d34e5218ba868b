-- Requests and answers are Unicode, and a database may be in another encoding.
\set SHOW_CONTEXT never
\set VERBOSITY terse
CREATE DATABASE pgml_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;
\c pgml_latin1
SET client_encoding = 'UTF8';
CREATE EXTENSION pgml;
\getenv port PGML_TEST_PORT
\set base_url 'http://127.0.0.1:' :port '/v1'
CREATE SERVER engine FOREIGN DATA WRAPPER pgml OPTIONS (base_url :'base_url');
INSERT INTO pgml.models (name, server, engine_model) VALUES ('echo', 'engine', 'echo'), ('größe', 'engine', 'echo');
SELECT pgml.chat_completion('{"model": "echo", "messages": [{"role": "user", "content": "ärger"}]}') #>> '{choices,0,message,content}' AS content;
SELECT pgml.chat_completion('{"model": "größe", "messages": [{"role": "user", "content": "x"}]}') ->> 'model' AS model;
SELECT pgml.chat_completion_stream('{"model": "echo", "messages": [{"role": "user", "content": "Straße nach Malmö"}]}') #>> '{choices,0,delta,content}' AS content;
SELECT pgml.chat_completion('{"model": "grösser", "messages": [{"role": "user", "content": "x"}]}');
-- What the encoding does not have is an error, as everywhere in Postgres.
SELECT pgml.chat_completion('{"model": "echo", "chat_template": "{{ messages[0].content }} \\u65e5", "messages": [{"role": "user", "content": "x"}]}');
SELECT 'on it goes' AS after;
\c pgml_regression
DROP DATABASE pgml_latin1;
