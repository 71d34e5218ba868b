-- What an engine can do wrong, and what its caller is told: with an SQLSTATE to act on.
\set SHOW_CONTEXT never
SELECT pgml.chat_completion(ask('error-400', ''), request_id => 'mine');
SELECT pgml.chat_completion_stream(ask('error-429', ''), request_id => 'mine');
\pset format unaligned
\pset tuples_only on
\pset fieldsep ' '
-- By both functions alike; with a template, and so by the engine's other endpoint, too.
SELECT name, E'\n   ', whole.code, whole.message, E'\n   ', whole.detail, whole.hint,
       CASE WHEN whole IS DISTINCT FROM stream THEN format(E'\n    but streamed: %s', stream) END,
       CASE WHEN whole IS DISTINCT FROM template THEN format(E'\n    but with a template: %s', template) END
FROM unnest(ARRAY[
    'error-400', 'error-401', 'error-403', 'error-404', 'error-413', 'error-422', 'error-429', 'error-500', 'error-501',
    'error-503', 'error-504', 'redirect', 'page', 'dying', 'unfinished', 'nonsense', 'failing'
]) WITH ORDINALITY AS bad(name, i),
LATERAL raised(format('SELECT pgml.chat_completion(%L)', ask(name, ''))) AS whole,
LATERAL raised(format('SELECT pgml.chat_completion_stream(%L)', ask(name, ''))) AS stream,
LATERAL raised(format('SELECT pgml.chat_completion(%L)', ask(name, '', '{"chat_template": ""}'))) AS template
ORDER BY i;
-- A redirect is not followed: no address comes from anybody but an administrator.
SELECT meter() \gset
SELECT (raised($$SELECT pgml.chat_completion(ask('redirect', ''))$$)).code;
SELECT meter();
-- One broken choice breaks them all, and the others are given up.
SELECT (raised($$SELECT pgml.chat_completion(ask('dying', '', '{"n": 2}'))$$)).code;
SELECT substring(meter() FROM 'requests: \d+');

-- No engine there. Its address is not told: it is the administrator's.
CREATE SERVER nobody FOREIGN DATA WRAPPER pgml OPTIONS (base_url 'http://127.0.0.1:1/v1');
INSERT INTO pgml.models (name, server, engine_model) VALUES ('nobody', 'nobody', 'echo');
SELECT code, regexp_replace(message, '\(os error \d+\)', '(os error …)'), detail, hint
FROM raised($$SELECT pgml.chat_completion(ask('nobody', ''))$$);
ALTER SERVER nobody OPTIONS (SET base_url 'http://nobody.invalid/v1');
SELECT code, substring(message FROM '^cannot connect to engine "nobody"'), detail, hint
FROM raised($$SELECT pgml.chat_completion(ask('nobody', ''))$$);
-- Plain HTTP where TLS was meant, and a certificate that is none.
\getenv port PGML_TEST_PORT
\set base_url 'https://127.0.0.1:' :port '/v1'
ALTER SERVER nobody OPTIONS (SET base_url :'base_url');
SELECT left(code, 2) FROM raised($$SELECT pgml.chat_completion(ask('nobody', ''))$$);
ALTER SERVER nobody OPTIONS (ADD sslrootcert '/nowhere/engine.pem');
SELECT code, substring(message FROM '^.* cannot be used'), detail, hint FROM raised($$SELECT pgml.chat_completion(ask('nobody', ''))$$);
ALTER SERVER nobody OPTIONS (SET sslrootcert '/dev/null');
SELECT left(code, 2) FROM raised($$SELECT pgml.chat_completion(ask('nobody', ''))$$);

-- An engine that says nothing is given up after read_timeout, and not before.
\set base_url 'http://127.0.0.1:' :port '/v1'
ALTER SERVER nobody OPTIONS (SET base_url :'base_url', DROP sslrootcert, ADD read_timeout '0.3');
UPDATE pgml.models SET engine_model = 'silent' WHERE name = 'nobody';
SELECT meter() \gset
SELECT e.*, clock_timestamp() - statement_timestamp() BETWEEN '0.3 s' AND '3 s' AS "in time"
FROM raised($$SELECT pgml.chat_completion(ask('nobody', ''))$$) AS e;
SELECT meter();
-- One that goes on speaking is not, however long it takes.
UPDATE pgml.models SET engine_model = 'endless' WHERE name = 'nobody';
SELECT count(*) FROM (SELECT pgml.chat_completion_stream(ask('nobody', '')) LIMIT 200) AS rows;
SELECT meter();
DELETE FROM pgml.models WHERE server = 'nobody';
DROP SERVER nobody;
