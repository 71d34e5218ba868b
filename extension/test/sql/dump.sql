-- A dump has the models, the engines, the keys and the rights; restored, they work.
\set SHOW_CONTEXT never
CREATE USER MAPPING FOR pgml_app SERVER engine OPTIONS (api_key 'kept');
CREATE TABLE expected AS SELECT * FROM pgml.models;
CREATE DATABASE pgml_restored;
\! pg_dump pgml_regression | psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --output /dev/null pgml_restored
\c pgml_restored
SELECT count(*) > 20 AS "some models" FROM pgml.models;
SELECT count(*) AS "models that differ" FROM (TABLE pgml.models EXCEPT TABLE expected) AS d;
SET ROLE pgml_app;
SELECT content(pgml.chat_completion(ask('key', '')));
SET ROLE pgml_other;
\set VERBOSITY terse
SELECT pgml.chat_completion(ask('echo', ''));
RESET ROLE;
\c pgml_regression
DROP DATABASE pgml_restored;
-- The models alone, as data of the extension.
\! pg_dump --data-only --table pgml.models pgml_regression | grep '^COPY'
DROP TABLE expected;
DROP USER MAPPING FOR pgml_app SERVER engine;
-- Clean up, and see that all can be dropped.
\set VERBOSITY default
DROP SERVER engine;
DROP FUNCTION meter;
DROP EXTENSION pgml;
SELECT count(*) AS "left of it" FROM pg_proc WHERE probin LIKE '%pgml%';
DROP ROLE pgml_app;
DROP ROLE pgml_other;
