-- What a request cost: usage.resources.
\set SHOW_CONTEXT never

-- Asked for by the setting, or by the request, which counts before it.
CREATE FUNCTION resources(model text, more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
    SELECT (pgml.chat_completion(ask(model, 'one two three', more)) #> '{usage,resources}')::jsonb
$$;
SELECT resources('echo') IS NULL AS "off", resources('echo', '{"resources": true}') IS NULL AS "asked for";
SET pgml.resources = on;
SELECT resources('echo') IS NULL AS "on", resources('echo', '{"resources": false}') IS NULL AS "declined";
SELECT pgml.chat_completion(ask('echo', '', '{"resources": "yes"}'), request_id => 'mine');

-- The same figures each time; what is not known is null.
SELECT string_agg(key, ', ') FROM jsonb_object_keys(resources('echo')) AS key;
WITH r AS (SELECT resources('echo') AS r)
SELECT (r ->> 'total_ms')::float8 >= (r ->> 'first_token_ms')::float8 AS "total after first",
       (r ->> 'first_token_ms')::float8 > 0 AS "first token",
       (r ->> 'backend_cpu_ms')::float8 BETWEEN 0.001 AND (r ->> 'total_ms')::float8 * 2 AS "backend",
       r -> 'queue_ms' AS queue, r -> 'prompt_ms' AS prompt, r -> 'gpu_ms' AS gpu, r -> 'energy_j' AS energy
FROM r;

-- A stream tells them in its usage.
SELECT count(*) FILTER (WHERE c #> '{usage,resources}' IS NOT NULL), count(*) > 1 AS "several chunks"
FROM pgml.chat_completion_stream(ask('echo', 'a b', '{"stream_options": {"include_usage": true}}')) AS c;
DROP FUNCTION resources;
