-- pgml.transform_stream, as PostgresML has it: rows are arrays with a piece of text for each answer.
\set SHOW_CONTEXT never

SELECT pgml.transform_stream(
    task   => '{"task": "conversational", "model": "echo"}'::jsonb,
    inputs => ARRAY['{"role": "system", "content": "Be a pirate"}'::jsonb, '{"role": "user", "content": "How many helicopters?"}'::jsonb],
    args   => '{"max_new_tokens": 100}'::jsonb
);
SELECT pgml.transform_stream(task => '{"task": "text-generation", "model": "echo"}'::jsonb, input => 'Three Rings');
SELECT pgml.transform_stream('{"task": "text-generation", "model": "echo"}'::jsonb, '{"return_full_text": false}', 'a b');
-- Arguments by position, and cache, which means nothing.
SELECT pgml.transform_stream('{"task": "text-generation", "model": "echo"}'::jsonb, '{}'::jsonb, 'x', true);
SELECT pgml.transform_stream('{"task": "conversational", "model": "echo"}'::jsonb, '{}', ARRAY['{"role": "user", "content": "x"}'::jsonb], cache => true);
SELECT pg_typeof(r) FROM pgml.transform_stream('{"task": "text-generation", "model": "echo"}'::jsonb, input => 'x') AS r LIMIT 1;

-- Several answers: every row has a place for each.
SELECT bool_and(jsonb_array_length(r) = 2) AS "two in each row",
       string_agg(r ->> 0, '' ORDER BY i) AS first, string_agg(r ->> 1, '' ORDER BY i) AS second
FROM pgml.transform_stream('{"task": "conversational", "model": "echo"}'::jsonb, '{"num_return_sequences": 2}',
                           ARRAY['{"role": "user", "content": "a b c"}'::jsonb]) WITH ORDINALITY AS s(r, i);
SELECT bool_and(jsonb_array_length(r) = 2) AS "two in each row",
       string_agg(r ->> 0, '' ORDER BY i) AS first, string_agg(r ->> 1, '' ORDER BY i) AS second
FROM pgml.transform_stream('{"task": "text-generation", "model": "echo"}'::jsonb, '{"n": 2}', 'a b c') WITH ORDINALITY AS s(r, i);

-- Only text comes: no empty rows, no reasoning. What comes first comes at once, and an early end ends the engine's work.
SELECT pgml.transform_stream('{"task": "conversational", "model": "untidy"}'::jsonb, '{}', ARRAY['{"role": "user", "content": "x"}'::jsonb]);
SELECT pgml.transform_stream('{"task": "conversational", "model": "reasoning"}'::jsonb, '{}', ARRAY['{"role": "user", "content": "x"}'::jsonb]);
SELECT meter() \gset
SELECT pgml.transform_stream('{"task": "text-generation", "model": "endless"}'::jsonb, '{"return_full_text": false}', 'x') LIMIT 3;
SELECT meter();
-- As the published SDK reads it.
BEGIN;
DECLARE c CURSOR FOR SELECT pgml.transform_stream(
    task => '{"task": "conversational", "model": "echo"}'::jsonb,
    inputs => ARRAY['{"role": "user", "content": "one two three"}'::jsonb],
    args => '{"max_tokens": 1000, "temperature": 0.8, "n": 1}'::jsonb);
FETCH 2 FROM c;
FETCH 2 FROM c;
COMMIT;

SELECT count(*) FROM pgml.transform_stream('{"task": "text-generation", "model": "echo"}'::jsonb, input => NULL::text) AS none;
SELECT pgml.transform_stream('translation_en_to_fr', input => 'Bonjour');
\pset format unaligned
\pset tuples_only on
\pset fieldsep ' '
SELECT arguments, E'\n   ', e.code, e.message, E'\n   ', e.detail, e.hint
FROM unnest(ARRAY[
    $$'text-generation', input => 'x'$$,
    $$'conversational', inputs => ARRAY['{"role": "user", "content": "x"}'::jsonb]$$,
    $$'{"model": "echo"}'::jsonb, input => 'x'$$,
    $$'{"task": "text-generation"}'::jsonb, input => 'x'$$,
    $$'{"task": "summarization", "model": "echo"}'::jsonb, input => 'x'$$,
    $$'{"task": "conversational", "model": "echo"}'::jsonb, input => 'x'$$,
    $$'{"task": "text-generation", "model": "echo"}'::jsonb, inputs => ARRAY['{"role": "user", "content": "x"}'::jsonb]$$,
    $$'{"task": "conversational", "model": "echo"}'::jsonb, inputs => ARRAY['{"content": "x"}'::jsonb]$$,
    $$'{"task": "text-generation", "model": "echo"}'::jsonb, '"x"', 'x'$$,
    $$'{"task": "text-generation", "model": "echo"}'::jsonb, '{"temperature": 3}', 'x'$$,
    $$'{"task": "text-generation", "model": "dying"}'::jsonb, input => 'x'$$,
    $$'{"task": "text-generation", "model": "unfinished"}'::jsonb, input => 'x'$$
]) WITH ORDINALITY AS bad(arguments, i), LATERAL raised(format('SELECT pgml.transform_stream(%s)', arguments)) AS e ORDER BY i;
