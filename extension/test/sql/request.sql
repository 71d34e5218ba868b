-- What a request may say, and how it is told what is wrong.
\set SHOW_CONTEXT never

SELECT pgml.chat_completion(NULL) IS NULL AS nothing;
SELECT count(*) FROM (SELECT pgml.chat_completion_stream(NULL)) AS no_rows;

-- The parameter at fault is in the detail.
SELECT pgml.chat_completion('{"model": "echo"}');
SELECT pgml.chat_completion_stream(ask('echo', 'hi', '{"max_tokens": -1}'));

-- Each of these, added to a good request, makes it a bad one: by both functions alike.
CREATE TABLE bad (i int GENERATED ALWAYS AS IDENTITY, change jsonb);
INSERT INTO bad (change) VALUES
    ('{"model": null}'), ('{"model": ""}'), ('{"model": 3}'), ('{"model": true}'), ('{"model": ["echo"]}'), ('{"model": {}}'),
    ('{"model": {"model": 3}}'), ('{"model": {"model": ""}}'), ('{"model": {"model": {"model": "echo"}}}'),
    ('{"model": {"model": "echo", "revision": 2}}'),
    ('{"messages": null}'), ('{"messages": "hi"}'), ('{"messages": {"role": "user", "content": "hi"}}'),
    ('{"messages": []}'), ('{"messages": ["hi"]}'), ('{"messages": [null]}'), ('{"messages": [[]]}'), ('{"messages": [{}]}'),
    ('{"messages": [{"role": "user"}]}'), ('{"messages": [{"content": "hi"}]}'),
    ('{"messages": [{"role": "", "content": "hi"}]}'), ('{"messages": [{"role": 1, "content": "hi"}]}'),
    ('{"messages": [{"role": "user", "content": null}]}'), ('{"messages": [{"role": "user", "content": 4}]}'),
    ('{"messages": [{"role": "user", "content": {"text": "hi"}}]}'),
    ('{"messages": [{"role": "user", "content": ["hi"]}]}'), ('{"messages": [{"role": "user", "content": [{"text": "hi"}]}]}'),
    ('{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant"}]}'),
    ('{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": null}]}'),
    ('{"n": 0}'), ('{"n": -1}'), ('{"n": 129}'), ('{"n": 1.5}'), ('{"n": "2"}'), ('{"n": []}'), ('{"n": 1e30}'),
    ('{"max_tokens": 0}'), ('{"max_tokens": 2.5}'), ('{"max_tokens": "many"}'), ('{"max_tokens": {}}'),
    ('{"max_completion_tokens": -5}'), ('{"max_completion_tokens": false}'),
    ('{"temperature": -0.1}'), ('{"temperature": 2.01}'), ('{"temperature": "hot"}'), ('{"temperature": [1]}'),
    ('{"top_p": 1.1}'), ('{"top_p": "all"}'),
    ('{"frequency_penalty": -2.5}'), ('{"frequency_penalty": true}'),
    ('{"presence_penalty": 3}'), ('{"presence_penalty": {}}'),
    ('{"chat_template": 1}'), ('{"chat_template": ["{{ messages }}"]}'), ('{"chat_template": {}}'),
    ('{"stream_options": true}'), ('{"stream_options": []}'), ('{"stream_options": {"include_usage": "yes"}}'),
    ('{"seed": "x"}'), ('{"stop": 3}'), ('{"logit_bias": [5]}'),
    ('{"logprobs": "yes"}'), ('{"top_logprobs": 2}'), ('{"logprobs": true, "top_logprobs": 21}'),
    ('{"response_format": "json"}'), ('{"response_format": {"type": "json_schema"}}'),
    ('{"tools": {}}'), ('{"tools": [{"type": "web"}]}'), ('{"tool_choice": "required"}'), ('{"tool_choice": 3}'),
    ('{"audio": {"voice": "a"}}'), ('{"functions": []}'), ('{"modalities": ["text", "audio"]}'), ('{"web_search_options": {}}');
SELECT meter() \gset
\pset format unaligned
\pset tuples_only on
\pset fieldsep ' '
SELECT change, E'\n   ', whole.code, whole.message, E'\n   ', whole.detail,
       CASE WHEN whole IS DISTINCT FROM stream THEN format(E'\n    but streamed: %s', stream) END
FROM bad,
LATERAL raised(format('SELECT pgml.chat_completion(%L)', ask('echo', 'hi', change))) AS whole,
LATERAL raised(format('SELECT pgml.chat_completion_stream(%L)', ask('echo', 'hi', change))) AS stream
ORDER BY i;
-- What is no object at all.
SELECT request, E'\n   ', e.code, e.message, E'\n   ', e.detail
FROM unnest(ARRAY['null', 'true', '7', '"hi"', '[]', '[{"model": "echo"}]', '{}']) WITH ORDINALITY AS bad(request, i),
LATERAL raised(format('SELECT pgml.chat_completion(%L)', request)) AS e
ORDER BY i;
-- No bad request reached the engine, and no secret in one comes back.
SELECT meter();
SELECT e.message, e.detail, e.hint
FROM raised($$SELECT pgml.chat_completion(ask('echo', 'hi', '{"chat_template": {"token": "secret"}, "api_key": "secret"}'))$$) AS e;

-- What the engine gets: all that it may know, the defaults, and nulls as if they were not there.
CREATE FUNCTION engine_gets(more jsonb) RETURNS text LANGUAGE sql
    RETURN content(pgml.chat_completion(ask('request', 'hi', more)));
SELECT engine_gets('{}');
SELECT engine_gets('{"temperature": null, "n": null, "max_tokens": null, "stop": null, "stream_options": null, "chat_template": null}');
SELECT engine_gets('{"temperature": 0, "top_p": 1, "frequency_penalty": -2, "presence_penalty": 2, "max_tokens": 1}');
SELECT engine_gets('{"temperature": 2, "max_completion_tokens": 5, "stop": ["a", "b"], "seed": 7, "logit_bias": {"5": -100}}');
SELECT engine_gets('{"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto", "parallel_tool_calls": false}');
SELECT engine_gets('{"response_format": {"type": "json_object"}, "logprobs": true, "top_logprobs": 2, "user": "me"}');
SELECT engine_gets('{"top_k": 40, "min_p": 0.05, "grammar": "root ::= \"a\"", "chat_template_kwargs": {"thinking": false}}');
-- Which function was called says whether it streams; the model is the engine's; the seed is one more for each choice.
SELECT engine_gets('{"stream": true, "stream_options": {"include_usage": true}, "n": 1}');
SELECT choice #>> '{message,content}'
FROM pgml.chat_completion(ask('request', 'hi', '{"n": 3, "seed": 7}')) AS c, json_array_elements(c -> 'choices') AS choice;
-- Where a request goes is not for the request to say.
SELECT engine_gets('{"base_url": "http://elsewhere/v1", "server": "other", "api_key": "secret", "unix_socket": "/tmp/s"}');
-- Messages go as they are: all roles, content parts, names, tool calls; any text.
SELECT engine_gets('{"messages": [
    {"role": "system", "content": "Be brief."}, {"role": "developer", "content": ""},
    {"role": "user", "name": "ann", "content": [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]},
    {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "1", "content": "4"}, {"role": "assistant", "content": null, "refusal": "no"}]}');
SELECT content(pgml.chat_completion(ask('echo', E'quotes \' " \\ tab \t newline \n ärger 日本語 🦙')));
-- Numbers that few can hold, and nesting that is too deep to be meant.
SELECT engine_gets('{"seed": 9223372036854775807}');
SELECT code, detail FROM raised($$SELECT engine_gets('{"seed": 1e400}')$$);
SELECT engine_gets(format('{"deep": %s%s}', repeat('[', 100), repeat(']', 100))::jsonb) LIKE '{"deep": ' || repeat('[', 100) || '%';
SELECT code, detail FROM raised(format('SELECT engine_gets(%L)', format('{"deep": %s%s}', repeat('[', 500), repeat(']', 500))));
-- A json and a text keep the order of keys, in which a model writes the properties of a schema. A literal is a text.
\set schema '{"model": "format", "messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"properties": {"zebra": {}, "apple": {}}}}}}'
SELECT content(pgml.chat_completion(:'schema'));
SELECT content(pgml.chat_completion(:'schema'::json));
SELECT content(pgml.chat_completion(:'schema'::jsonb));
SELECT code, message, detail FROM raised($$SELECT pgml.chat_completion('{"model": ')$$);
DROP FUNCTION engine_gets;
DROP TABLE bad;
