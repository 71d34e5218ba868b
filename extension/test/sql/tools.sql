-- tool_choice: a call that has to happen does, with engines that do not enforce it.
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
\set tools '{"tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]}'
\set named '{"tool_choice": {"type": "function", "function": {"name": "weather"}}}'
\set required '{"tool_choice": "required"}'

-- The model writes the arguments of a function that is named: `echo` does. The id is one of ours.
SELECT c #>> '{choices,0,message,tool_calls,0,id}' ~ '^call_[0-9a-f]{32}_0$', (c #> '{choices,0}')::jsonb #- '{message,tool_calls,0,id}'
FROM pgml.chat_completion(ask('echo', '{"city": "Oslo"}', :'tools'::jsonb || :'named')) AS c;
-- It writes the name too where any of the tools will do.
SELECT (c #> '{choices,0}')::jsonb #- '{message,tool_calls,0,id}'
FROM pgml.chat_completion(ask('echo', '{"name": "weather", "arguments": {"city": "Oslo"}}', :'tools'::jsonb || :'required')) AS c;
-- In a stream, the arguments come in pieces, the id once.
SELECT count(c #> '{choices,0,delta,tool_calls,0,id}'), string_agg(c #>> '{choices,0,delta,tool_calls,0,function,arguments}', '' ORDER BY i),
       max(c #>> '{choices,0,delta,tool_calls,0,function,name}'), max(c #>> '{choices,0,finish_reason}'), count(c #> '{choices,0,delta,content}')
FROM pgml.chat_completion_stream(ask('echo', '{"name": "weather", "arguments": {"city": "Oslo"}}', :'tools'::jsonb || :'required')) WITH ORDINALITY AS s(c, i);
-- What keeps the engine to it is a schema, and an instruction in a system message.
SELECT jsonb_pretty(got - 'messages'), got #>> '{messages,0,role}', got #>> '{messages,1,content}', jsonb_array_length(got -> 'messages')
FROM pgml.chat_completion(ask('request', 'hi', :'tools'::jsonb || :'named')) AS c,
LATERAL (SELECT (c #>> '{choices,0,message,tool_calls,0,function,arguments}')::jsonb AS got) AS g;
-- Otherwise tools are the engine's affair.
SELECT content(pgml.chat_completion(ask('request', 'hi', :'tools'::jsonb || '{"tool_choice": "none"}')));
-- A function that is none of the tools.
SELECT code, message, detail
FROM raised(format('SELECT pgml.chat_completion(%L)', ask('echo', 'x', :'tools'::jsonb || '{"tool_choice": {"type": "function", "function": {"name": "f"}}}')));
-- allowed_tools are fewer tools, and who decides.
SELECT content(pgml.chat_completion(ask('request', 'hi', '{
    "tools": [{"type": "function", "function": {"name": "weather"}}, {"type": "function", "function": {"name": "time"}}],
    "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "time"}}]}}
}')));
