-- Nothing that a caller puts into its search_path takes part in the extension's own queries.
\set SHOW_CONTEXT never
\set VERBOSITY terse
CREATE SCHEMA mine AUTHORIZATION pgml_other;
SET ROLE pgml_other;
CREATE FUNCTION mine.has_server_privilege(oid, text) RETURNS bool LANGUAGE sql RETURN true;
CREATE FUNCTION mine.concat_ws(text, VARIADIC text[]) RETURNS text LANGUAGE sql RETURN 'echo';
CREATE FUNCTION mine.equal(text, text) RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'mine was called';
    RETURN true;
END
$$;
CREATE OPERATOR mine.= (LEFTARG = text, RIGHTARG = text, FUNCTION = mine.equal);
CREATE FUNCTION mine.equal(name, name) RETURNS bool LANGUAGE sql RETURN true;
CREATE OPERATOR mine.= (LEFTARG = name, RIGHTARG = name, FUNCTION = mine.equal);
CREATE TABLE mine.pg_foreign_server AS SELECT * FROM pg_foreign_server;
SET search_path = mine, pg_catalog, public;
SELECT pgml.chat_completion(ask('echo', 'the right is checked all the same'));
SELECT (raised($$SELECT pgml.chat_completion(ask('no such model', ''))$$)).hint;
RESET search_path;
SELECT pgml.chat_completion(ask('echo', 'and again'));
RESET ROLE;
-- With an empty search_path all works.
SET search_path = '';
SELECT public.content(pgml.chat_completion('{"model": "echo", "messages": [{"role": "user", "content": "hi"}]}'));
SELECT jsonb_pretty(pgml.transform('{"task": "text-generation", "model": "echo"}'::jsonb, inputs => ARRAY['hi']));
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA mine CASCADE;
RESET client_min_messages;
