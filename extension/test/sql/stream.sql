-- pgml.chat_completion_stream: chat.completion.chunk objects, a row each.
\set SHOW_CONTEXT never

\pset format unaligned
\pset tuples_only on
SELECT regexp_replace(regexp_replace(c::text, 'chatcmpl-[0-9a-f]{32}', 'chatcmpl-…'), '"created":\d+', '"created":…')
FROM (SELECT pgml.chat_completion_stream('{"model": "echo", "messages": [{"role": "user", "content": "How many?"}]}') AS c) AS s;
\pset tuples_only off
\pset format aligned

-- A word is a row, in the order of the engine. The role comes first and once, the reason to end last and once.
SELECT i, c #> '{choices,0,delta}' AS delta, c #>> '{choices,0,finish_reason}' AS finish_reason
FROM pgml.chat_completion_stream(ask('echo', 'one two three four')) WITH ORDINALITY AS s(c, i) ORDER BY i;
SELECT count(*) AS rows, count(DISTINCT c ->> 'id') AS ids, count(DISTINCT c ->> 'created') AS times,
       count(DISTINCT c ->> 'model') AS models, string_agg(c #>> '{choices,0,delta,content}', '' ORDER BY i) AS content
FROM pgml.chat_completion_stream(ask('echo', 'one two three four')) WITH ORDINALITY AS s(c, i);

-- The usage chunk, last, where it is asked for.
SELECT i, c -> 'choices' AS choices, c -> 'usage' AS usage
FROM pgml.chat_completion_stream(ask('echo', 'x', '{"stream_options": {"include_usage": true}}')) WITH ORDINALITY AS s(c, i) ORDER BY i;
SELECT c -> 'usage' AS "usage of 3"
FROM pgml.chat_completion_stream(ask('echo', 'x y', '{"n": 3, "stream_options": {"include_usage": true}}')) AS c
WHERE json_array_length(c -> 'choices') = 0;
SELECT c -> 'usage' AS "usage uncounted"
FROM pgml.chat_completion_stream(ask('untidy', '', '{"stream_options": {"include_usage": true}}')) AS c
WHERE json_array_length(c -> 'choices') = 0;
SELECT count(*) FILTER (WHERE c ->> 'usage' IS NOT NULL) AS "usage unasked"
FROM pgml.chat_completion_stream(ask('echo', 'x', '{"stream_options": {"include_usage": false}}')) AS c;

SELECT meter() \gset
-- n choices side by side, each whole and in its own order. One that is overtaken by a later one
-- is opened early, by a row without text.
SELECT c #>> '{choices,0,index}' AS index, count(nullif(c #>> '{choices,0,delta,content}', '')) AS texts, count(c #> '{choices,0,delta,role}') AS roles,
       string_agg(c #>> '{choices,0,delta,content}', '' ORDER BY i) AS content,
       string_agg(c #>> '{choices,0,finish_reason}', ' ' ORDER BY i) AS finish_reasons
FROM pgml.chat_completion_stream(ask('echo', 'a b c', '{"n": 3}')) WITH ORDINALITY AS s(c, i) GROUP BY 1 ORDER BY 1;
SELECT meter();

-- With batch, what has come together goes together: as one chunk, with the choices of all.
SELECT string_agg(choice #>> '{delta,content}', '' ORDER BY i, j) AS content, count(*) AS choices,
       bool_and(c ->> 'object' = 'chat.completion.chunk') AS chunks
FROM pgml.chat_completion_stream(ask('echo', 'one two three'), batch => true) WITH ORDINALITY AS s(c, i),
LATERAL json_array_elements(c -> 'choices') WITH ORDINALITY AS t(choice, j);
-- A slow reader finds all the rest waiting.
SELECT count(*) < 100 AS "few rows", sum(json_array_length(c -> 'choices')) AS choices
FROM (SELECT pgml.chat_completion_stream(ask('echo', repeat('x ', 999)), batch => true) AS c, pg_sleep(0.01)) AS s;
SELECT bool_and(json_array_length(c -> 'choices') = 1) AS "one choice each"
FROM pgml.chat_completion_stream(ask('echo', repeat('x ', 100)), batch => false) AS c;
SELECT count(*) FROM pgml.chat_completion_stream(ask('echo', 'x'), batch => NULL) AS "NULL in, nothing out";

-- What engines say besides text, and untidily.
SELECT c #> '{choices,0,delta}' AS calling, c #>> '{choices,0,finish_reason}' AS finish_reason
FROM pgml.chat_completion_stream(ask('calling', '')) WITH ORDINALITY AS s(c, i) ORDER BY i;
SELECT c #> '{choices,0,delta}' AS reasoning
FROM pgml.chat_completion_stream(ask('reasoning', '')) WITH ORDINALITY AS s(c, i) ORDER BY i;
SELECT c #> '{choices,0,delta}' AS probable, c #> '{choices,0,logprobs}' AS logprobs
FROM pgml.chat_completion_stream(ask('probable', '')) WITH ORDINALITY AS s(c, i) ORDER BY i;
SELECT c #> '{choices,0,delta}' AS untidy, c #>> '{choices,0,finish_reason}' AS finish_reason, c ->> 'model' AS model
FROM pgml.chat_completion_stream(ask('untidy', '')) WITH ORDINALITY AS s(c, i) ORDER BY i;
SELECT c #> '{choices,0,delta}' AS "an empty answer", c #>> '{choices,0,finish_reason}' AS finish_reason
FROM pgml.chat_completion_stream(ask('echo', '')) AS c;

-- Rows of a breaking stream come, and then the error: it never ends as if it were complete.
\set VERBOSITY terse
BEGIN;
DECLARE breaking CURSOR FOR SELECT pgml.chat_completion_stream(ask('dying', '')) #>> '{choices,0,delta,content}' AS content;
FETCH 1 FROM breaking;
FETCH 1 FROM breaking;
FETCH 1 FROM breaking;
ROLLBACK;
