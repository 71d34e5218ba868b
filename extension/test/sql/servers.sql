-- The options of a foreign server and of a user mapping are checked when they are set.
\set SHOW_CONTEXT never

-- What a server may have.
CREATE SERVER s FOREIGN DATA WRAPPER pgml OPTIONS (base_url 'http://127.0.0.1:8080/v1');
CREATE SERVER https FOREIGN DATA WRAPPER pgml OPTIONS (
    base_url 'https://engine.example', sslrootcert '/etc/engine.pem', connect_timeout '0.5', read_timeout '86400');
CREATE SERVER v6 FOREIGN DATA WRAPPER pgml OPTIONS (base_url 'http://[::1]:8080/v1/');
CREATE SERVER local FOREIGN DATA WRAPPER pgml OPTIONS (base_url 'http://engine/v1', unix_socket '/run/engine.sock');
ALTER SERVER s OPTIONS (ADD read_timeout '30', SET base_url 'HTTP://LOCALHOST/v1');
ALTER SERVER s OPTIONS (DROP read_timeout);
DROP SERVER s, https, v6, local;

-- What it must have, and how it must be.
CREATE SERVER s FOREIGN DATA WRAPPER pgml;
CREATE SERVER s FOREIGN DATA WRAPPER pgml OPTIONS (read_timeout '30');
CREATE SERVER s FOREIGN DATA WRAPPER pgml OPTIONS (base_url 'http://engine/v1', model 'echo');
CREATE SERVER s FOREIGN DATA WRAPPER pgml OPTIONS (base_url 'http://engine/v1', api_key 'secret');
\set VERBOSITY terse
BEGIN;
SELECT base_url, e.code, e.message
FROM unnest(ARRAY[
    '', 'engine', '/v1', 'engine:8080/v1', 'ftp://engine/v1', 'unix:/run/engine.sock', 'http://', 'http:///v1',
    'http://engine:99999/v1', 'http://engine:port/v1', 'http://user:secret@engine/v1', 'http://user@engine/v1',
    'http://engine/a b', E'http://engine/v1\r\nX: y'
]) WITH ORDINALITY AS bad(base_url, i),
LATERAL raised(format('CREATE SERVER bad_%s FOREIGN DATA WRAPPER pgml OPTIONS (base_url %L)', i, base_url)) AS e
ORDER BY i;
SELECT option, e.code, e.message
FROM unnest(ARRAY[
    'unix_socket ''engine.sock''', 'unix_socket ''''', 'sslrootcert ''engine.pem''',
    'connect_timeout ''0''', 'connect_timeout ''-1''', 'connect_timeout ''soon''', 'connect_timeout ''''',
    'read_timeout ''86401''', 'read_timeout ''NaN''', 'read_timeout ''inf''', 'read_timeout ''30s'''
]) WITH ORDINALITY AS bad(option, i),
LATERAL raised(format('CREATE SERVER bad_option_%s FOREIGN DATA WRAPPER pgml OPTIONS (base_url ''http://e/v1'', %s)', i, option)) AS e
ORDER BY i;
SELECT srvname, srvoptions FROM pg_foreign_server WHERE srvname LIKE 'bad%';
ROLLBACK;
ALTER SERVER engine OPTIONS (DROP base_url);
ALTER SERVER engine OPTIONS (SET base_url 'nowhere');

-- A user mapping holds the key, and nothing else. Other objects hold nothing.
\set VERBOSITY default
CREATE USER MAPPING FOR PUBLIC SERVER engine OPTIONS (password 'secret');
CREATE USER MAPPING FOR PUBLIC SERVER engine OPTIONS (base_url 'http://elsewhere/v1');
CREATE USER MAPPING FOR PUBLIC SERVER engine OPTIONS (api_key 'secret', user 'me');
CREATE USER MAPPING FOR PUBLIC SERVER engine OPTIONS (api_key 'secret');
ALTER USER MAPPING FOR PUBLIC SERVER engine OPTIONS (SET api_key 'secret2');
DROP USER MAPPING FOR PUBLIC SERVER engine;
ALTER FOREIGN DATA WRAPPER pgml OPTIONS (ADD base_url 'http://engine/v1');

-- What engines differ in: each option says what it takes.
BEGIN;
SELECT option, e.code, e.message
FROM unnest(ARRAY[
    $$proxy 'https://proxy:3128'$$, $$proxy 'http://proxy:3128/path'$$, $$proxy 'http://me:secret@proxy:3128'$$,
    $$api_key_header 'x key'$$, $$api_key_header 'Host'$$, $$api_version ''$$, $$api_version '1&key=2'$$,
    $$headers 'X-Title: me'$$, $$headers '{"X-Title": 1}'$$, $$headers '{"Content-Length": "1"}'$$,
    $$headers E'{"X-Title": "a\\r\\nb"}'$$, $$stream_options 'never'$$, $$default_temperature 'hot'$$,
    $$default_temperature '3'$$, $$max_answer_bytes '0'$$, $$max_answer_bytes 'much'$$, $$max_answer_bytes '1 TB'$$,
    $$keepalive '-1'$$, $$keepalive '100000'$$, $$proxy_password 'secret'$$
]) WITH ORDINALITY AS bad(option, i),
LATERAL raised(format($$CREATE SERVER bad_%s FOREIGN DATA WRAPPER pgml OPTIONS (base_url 'http://engine/v1', %s)$$, i, option)) AS e
ORDER BY i;
ROLLBACK;

-- The temperature of requests that have none, and what is not sent to an engine that refuses it.
CREATE FUNCTION engine_got(more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
    SELECT body - 'messages' - 'model' FROM CAST(content(pgml.chat_completion(ask('request', 'hi', more))) AS jsonb) AS body
$$;
SELECT engine_got(), engine_got('{"temperature": null, "stream_options": null}');
ALTER SERVER engine OPTIONS (ADD default_temperature 'none', ADD stream_options 'off');
SELECT engine_got(), engine_got('{"temperature": 0.8}');
ALTER SERVER engine OPTIONS (SET default_temperature '0.3', DROP stream_options);
SELECT engine_got(), engine_got('{"temperature": 1}'), engine_got('{"temperature": null}');
ALTER SERVER engine OPTIONS (DROP default_temperature);
DROP FUNCTION engine_got;

-- A query in base_url goes with every request, and api_version is one.
ALTER SERVER engine OPTIONS (ADD api_version '2024-10-21');
SELECT content(pgml.chat_completion(ask('path', '')));
ALTER SERVER engine OPTIONS (DROP api_version);

-- An answer has a limit, so that an engine that never ends takes no memory without one.
ALTER SERVER engine OPTIONS (ADD max_answer_bytes '1kB');
SELECT e.code, e.message, e.hint FROM raised($$SELECT pgml.chat_completion(ask('endless', ''))$$) AS e;
ALTER SERVER engine OPTIONS (DROP max_answer_bytes);

-- An address can also be a Unix socket.
\getenv socket PGML_TEST_SOCKET
CREATE SERVER by_path FOREIGN DATA WRAPPER pgml OPTIONS (base_url 'http://engine/v1', unix_socket :'socket');
INSERT INTO pgml.models (name, server, engine_model) VALUES ('echo by path', 'by_path', 'echo');
SELECT content(pgml.chat_completion(ask('echo by path', 'over a Unix socket')));
-- A changed option counts for the next request. base_url may end in a slash, and have any path.
ALTER SERVER by_path OPTIONS (SET base_url 'http://engine/some/where/');
UPDATE pgml.models SET engine_model = 'path' WHERE name = 'echo by path';
SELECT content(pgml.chat_completion(ask('echo by path', '')));
ALTER SERVER by_path OPTIONS (SET base_url 'http://engine');
SELECT content(pgml.chat_completion(ask('echo by path', '')));
ALTER SERVER by_path OPTIONS (SET unix_socket '/nowhere/engine.sock');
\set VERBOSITY sqlstate
SELECT pgml.chat_completion(ask('echo by path', ''));
\set VERBOSITY default

-- Options that are wrong all the same (from a dump of another version, say) are found when used.
UPDATE pg_foreign_server SET srvoptions = '{base_url=http://engine/v1,colour=blue}' WHERE srvname = 'by_path';
SELECT pgml.chat_completion(ask('echo by path', ''));
DELETE FROM pgml.models WHERE server = 'by_path';
DROP SERVER by_path;
