-- pgml.transform, as PostgresML has it, for its two tasks that make text.
\set SHOW_CONTEXT never

-- conversational: messages in, an array of answers out.
SELECT pgml.transform(
    task   => '{"task": "conversational", "model": "echo"}'::jsonb,
    inputs => ARRAY[
        '{"role": "system", "content": "Be a pirate"}'::jsonb,
        '{"role": "user", "content": "How many helicopters can a human eat in one sitting?"}'::jsonb
    ],
    args   => '{"max_new_tokens": 100}'::jsonb
);
-- text-generation: prompts in, for each an array of texts that begin with it.
SELECT pgml.transform(
    task   => '{"task": "text-generation", "model": "echo"}'::jsonb,
    inputs => ARRAY['Three Rings for the Elven-kings', 'under the sky']
);
SELECT pgml.transform('{"task": "text-generation", "model": "echo"}'::jsonb, '{"return_full_text": false}', ARRAY['a', 'b c']);
-- Arguments by position, and cache, which means nothing.
SELECT pgml.transform('{"task": "text-generation", "model": "echo"}'::jsonb, '{}'::jsonb, ARRAY['x'], true);
SELECT pgml.transform('{"task": "conversational", "model": "echo"}'::jsonb, '{}', ARRAY['{"role": "user", "content": "x"}'::jsonb], cache => true);
SELECT pg_typeof(pgml.transform('{"task": "text-generation", "model": "echo"}'::jsonb, inputs => ARRAY['x']));

-- Several answers, in transformers' words and in OpenAI's.
SELECT pgml.transform('{"task": "conversational", "model": "echo"}'::jsonb, '{"num_return_sequences": 2}', ARRAY['{"role": "user", "content": "x"}'::jsonb]);
SELECT pgml.transform('{"task": "conversational", "model": "echo"}'::jsonb, '{"n": 3}', ARRAY['{"role": "user", "content": "x"}'::jsonb]);
SELECT pgml.transform('{"task": "text-generation", "model": "echo"}'::jsonb, '{"num_return_sequences": 2}', ARRAY['x', 'y']);

-- What the engine gets of a conversation, and of a prompt.
CREATE FUNCTION engine_gets(args jsonb, task text DEFAULT 'text-generation') RETURNS text LANGUAGE sql
    RETURN pgml.transform(jsonb_build_object('task', task, 'model', 'request'), args || '{"return_full_text": false}', ARRAY['hi'])
        #>> '{0,0,generated_text}';
SELECT pgml.transform('{"task": "conversational", "model": "request"}'::jsonb, '{}', ARRAY['{"role": "user", "content": "hi"}'::jsonb]) ->> 0;
SELECT engine_gets('{}');
SELECT engine_gets('{"max_new_tokens": 5, "temperature": 0.5, "top_p": 0.9, "top_k": 40, "repetition_penalty": 1.1, "stop_strings": ["x"]}');
SELECT engine_gets('{"max_tokens": 5, "max_new_tokens": 6, "seed": 1}');
SELECT engine_gets('{"do_sample": false}');
SELECT engine_gets('{"do_sample": false, "temperature": 0.9}');
SELECT engine_gets('{"do_sample": true, "temperature": null}');
SELECT engine_gets('{"return_full_text": true, "stop_sequence": "x"}');
-- The model object's other members choose the model, as everywhere.
SELECT pgml.transform('{"task": "text-generation", "model": "request", "revision": "main", "token": "secret", "trust_remote_code": true}'::jsonb,
                      '{"return_full_text": false}', ARRAY['hi']) #>> '{0,0,generated_text}';
-- chat_template counts for a conversation.
SELECT pgml.transform('{"task": "conversational", "model": "echo"}'::jsonb, '{"chat_template": "Dear {{ messages[0].content }}"}', ARRAY['{"role": "user", "content": "Ann"}'::jsonb]);
DROP FUNCTION engine_gets;

-- NULL, nothing, and text that is empty.
SELECT pgml.transform('{"task": "text-generation", "model": "echo"}'::jsonb, inputs => NULL::text[]) IS NULL AS "null";
SELECT pgml.transform('{"task": "text-generation", "model": "echo"}'::jsonb, inputs => ARRAY[]::text[]);
SELECT pgml.transform('{"task": "text-generation", "model": "echo"}'::jsonb, inputs => ARRAY['']);

-- What is wrong is told by the names that the caller used.
SELECT pgml.transform('translation_en_to_fr', inputs => ARRAY['Bonjour']);
SELECT pgml.transform('text-generation', inputs => ARRAY['x']);
\pset format unaligned
\pset tuples_only on
\pset fieldsep ' '
SELECT arguments, E'\n   ', e.code, e.message, E'\n   ', e.detail, e.hint
FROM unnest(ARRAY[
    $$'{"model": "echo"}'::jsonb, inputs => ARRAY['x']$$,
    $$'{"task": 3, "model": "echo"}'::jsonb, inputs => ARRAY['x']$$,
    $$'{"task": "text-generation"}'::jsonb, inputs => ARRAY['x']$$,
    $$'{"task": "text-generation", "model": 3}'::jsonb, inputs => ARRAY['x']$$,
    $$'{"task": "fill-mask", "model": "echo"}'::jsonb, inputs => ARRAY['x']$$,
    $$'"text-generation"'::jsonb, inputs => ARRAY['x']$$,
    $$'[]'::jsonb, inputs => ARRAY['x']$$,
    $$'{"task": "conversational", "model": "echo"}'::jsonb, inputs => ARRAY['x']$$,
    $$'{"task": "text-generation", "model": "echo"}'::jsonb, inputs => ARRAY['{"role": "user", "content": "x"}'::jsonb]$$,
    $$'{"task": "conversational", "model": "echo"}'::jsonb, inputs => ARRAY['"x"'::jsonb]$$,
    $$'{"task": "conversational", "model": "echo"}'::jsonb, inputs => ARRAY['{"role": "user"}'::jsonb]$$,
    $$'{"task": "conversational", "model": "echo"}'::jsonb, inputs => ARRAY[]::jsonb[]$$,
    $$'{"task": "text-generation", "model": "echo"}'::jsonb, inputs => ARRAY['a', NULL]$$,
    $$'{"task": "conversational", "model": "echo"}'::jsonb, inputs => ARRAY['{"role": "user", "content": "x"}'::jsonb, NULL]$$,
    $$'{"task": "text-generation", "model": "echo"}'::jsonb, '[]', ARRAY['x']$$,
    $$'{"task": "text-generation", "model": "echo"}'::jsonb, '{"max_new_tokens": "many"}', ARRAY['x']$$,
    $$'{"task": "text-generation", "model": "echo"}'::jsonb, '{"num_return_sequences": 0}', ARRAY['x']$$,
    $$'{"task": "text-generation", "model": "echo"}'::jsonb, '{"return_full_text": "no"}', ARRAY['x']$$,
    $$'{"task": "text-generation", "model": "echo"}'::jsonb, '{"do_sample": "no"}', ARRAY['x']$$,
    $$'{"task": "text-generation", "model": "error-429"}'::jsonb, inputs => ARRAY['x']$$
]) WITH ORDINALITY AS bad(arguments, i), LATERAL raised(format('SELECT pgml.transform(%s)', arguments)) AS e ORDER BY i;
