-- What the other tests use: the extension, an engine, its models, roles, and a few short words.
CREATE EXTENSION pgml;
SELECT extversion FROM pg_extension WHERE extname = 'pgml';
\getenv port PGML_TEST_PORT
\set base_url 'http://127.0.0.1:' :port '/v1'
CREATE SERVER engine FOREIGN DATA WRAPPER pgml OPTIONS (base_url :'base_url');
-- What ../engine.py does is named by its models.
INSERT INTO pgml.models (name, server, engine_model)
SELECT name, 'engine', name
FROM unnest(ARRAY[
    'echo', 'request', 'format', 'path', 'key', 'meter', 'reasoning', 'calling', 'probable', 'untidy', 'endless',
    'error-400', 'error-401', 'error-403', 'error-404', 'error-413', 'error-422', 'error-429', 'error-500',
    'error-501', 'error-503', 'error-504', 'redirect', 'page', 'dying', 'unfinished', 'nonsense', 'failing', 'silent'
]) AS name;
CREATE ROLE pgml_app LOGIN;
CREATE ROLE pgml_other LOGIN;
GRANT USAGE ON FOREIGN SERVER engine TO pgml_app;
-- A request with one message.
CREATE FUNCTION ask(model text, content text, more jsonb DEFAULT '{}') RETURNS jsonb
    LANGUAGE sql STABLE
    RETURN jsonb_build_object(
        'model', model,
        'messages', jsonb_build_array(jsonb_build_object('role', 'user', 'content', content))
    ) || more;
-- The text of a completion.
CREATE FUNCTION content(completion json) RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN completion #>> '{choices,0,message,content}';
-- How many requests the engine got since it was asked last, and how many of them were given up
-- by their caller. It answers when none is under way any more.
CREATE FUNCTION meter() RETURNS text
    LANGUAGE sql VOLATILE
    RETURN content(pgml.chat_completion(ask('meter', '')));
-- What a statement raises.
CREATE FUNCTION raised(statement text, OUT code text, OUT message text, OUT detail text, OUT hint text)
    LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    message := 'nothing';
EXCEPTION WHEN OTHERS OR query_canceled THEN
    GET STACKED DIAGNOSTICS
        code = RETURNED_SQLSTATE,
        message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL,
        hint = PG_EXCEPTION_HINT;
    -- Every request has an id of its own, unless it is given one.
    detail := regexp_replace(detail, 'chatcmpl-[0-9a-f]{32}', 'chatcmpl-…');
END
$$;
SELECT content(pgml.chat_completion(ask('echo', 'Ahoy, matey!')));
SELECT meter();
