-- pgml.chat_completion: one OpenAI chat.completion object.
\set SHOW_CONTEXT never

-- Its members and their order. An id and a time are made for each.
\pset format unaligned
\pset tuples_only on
SELECT regexp_replace(regexp_replace(c::text, 'chatcmpl-[0-9a-f]{32}', 'chatcmpl-…'), '"created":\d+', '"created":…')
FROM pgml.chat_completion('{"model": "echo", "messages": [{"role": "user", "content": "How many helicopters?"}]}') AS c;
\pset tuples_only off
\pset format aligned
SELECT json_typeof(c), pg_typeof(c), c ->> 'object' AS object,
       abs((c ->> 'created')::int - extract(epoch FROM now())) < 60 AS "created now",
       c ->> 'model' AS model, c ->> 'system_fingerprint' AS fingerprint
FROM pgml.chat_completion(ask('echo', 'hi')) AS c;
SELECT count(DISTINCT pgml.chat_completion(ask('echo', 'hi')) ->> 'id') AS ids FROM generate_series(1, 3);
SELECT message ->> 'role' AS role, message ->> 'content' AS content, finish_reason, index, logprobs
FROM pgml.chat_completion(ask('echo', 'Ahoy there')) AS c,
json_to_recordset(c -> 'choices') AS choice(index int, message json, finish_reason text, logprobs json);

SELECT meter() \gset
-- n choices are n requests to the engine. The prompt counts once, the completions all.
SELECT index, message ->> 'content' AS content, finish_reason
FROM pgml.chat_completion(ask('echo', 'one two three', '{"n": 2}')) AS c,
json_to_recordset(c -> 'choices') AS choice(index int, message json, finish_reason text);
SELECT meter();
SELECT n, u.* FROM unnest(ARRAY[1, 2, 5]) AS n,
LATERAL pgml.chat_completion(ask('echo', 'one two three', jsonb_build_object('n', n))) AS c,
json_to_record(c -> 'usage') AS u(prompt_tokens int, completion_tokens int, total_tokens int) ORDER BY n;
SELECT meter();
SELECT json_array_length(pgml.chat_completion(ask('echo', 'hi', '{"n": 128}')) -> 'choices') AS choices;
SELECT meter();

-- What engines say besides text.
SELECT jsonb_pretty((c #> '{choices,0,message}')::jsonb) AS calling FROM pgml.chat_completion(ask('calling', '')) AS c;
SELECT c #>> '{choices,0,finish_reason}' AS finish_reason FROM pgml.chat_completion(ask('calling', '')) AS c;
SELECT c #> '{choices,0,message}' AS reasoning FROM pgml.chat_completion(ask('reasoning', '')) AS c;
SELECT c #> '{choices,0,logprobs}' AS probable FROM pgml.chat_completion(ask('probable', '')) AS c;
-- However untidy the engine; one that does not count leaves usage null.
SELECT c #> '{choices,0,message}' AS message, c #>> '{choices,0,finish_reason}' AS finish_reason, c -> 'usage' AS usage
FROM pgml.chat_completion(ask('untidy', '')) AS c;
-- An empty answer is an empty text: null is for those who had something else to say.
SELECT c #> '{choices,0,message}' AS message FROM pgml.chat_completion(ask('echo', '')) AS c;
-- A long one too.
SELECT length(content(pgml.chat_completion(ask('echo', repeat('word ', 20000))))) AS length;

-- A completion can be made into what a query wants.
SELECT (content(pgml.chat_completion(ask('echo', '{"helicopters": 0}')))::jsonb ->> 'helicopters')::int AS helicopters;
