-- Nothing that a caller puts into its search_path takes part in the extension's own queries.
\set SHOW_CONTEXT never
\set VERBOSITY terse
CREATE SCHEMA mine AUTHORIZATION pgml_other;
SET ROLE pgml_other;
SET search_path = mine, pg_catalog, public;
CREATE FUNCTION mine.has_server_privilege(server oid, privilege text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'mine.has_server_privilege was called';
    RETURN true;
END
$$;
SELECT content(pgml.chat_completion(ask('echo', 'the right to the server is checked all the same')));
SELECT (raised($$SELECT pgml.chat_completion(ask('no such model', ''))$$)).hint;
CREATE FUNCTION mine.equal(text, text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'mine.= was called';
END
$$;
CREATE OPERATOR mine.= (LEFTARG = text, RIGHTARG = text, FUNCTION = mine.equal);
CREATE FUNCTION mine.concat(text, text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'mine.|| was called';
END
$$;
CREATE OPERATOR mine.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = mine.concat);
CREATE FUNCTION mine.string_agg_step(text, text, text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'mine.string_agg was called';
END
$$;
CREATE AGGREGATE mine.string_agg(text, text) (SFUNC = mine.string_agg_step, STYPE = text);
SELECT pgml.chat_completion('{"model": {"model": "echo", "revision": "r"}, "messages": [{"role": "user", "content": "x"}]}');
SELECT pgml.chat_completion('{"model": "no such model", "messages": [{"role": "user", "content": "x"}]}');
RESET ROLE;
-- Nor does it hinder who has the right.
GRANT USAGE ON FOREIGN SERVER engine TO pgml_other;
SET ROLE pgml_other;
SELECT pgml.chat_completion('{"model": "echo", "messages": [{"role": "user", "content": "x"}]}') #>> '{choices,0,message,content}' AS content;
RESET ROLE;
REVOKE USAGE ON FOREIGN SERVER engine FROM pgml_other;
-- With an empty search_path all works.
SET search_path = '';
SELECT public.content(pgml.chat_completion('{"model": "echo", "messages": [{"role": "user", "content": "hi"}]}'));
SELECT pgml.transform('{"task": "conversational", "model": "echo"}'::jsonb, inputs => ARRAY['{"role": "user", "content": "hi"}'::jsonb]);
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA mine CASCADE;
RESET client_min_messages;
