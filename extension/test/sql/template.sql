-- chat_template: a Jinja template of the caller's, rendered here; the engine continues the text.
-- Where template_1.out differs is valgrind's: under it the time is over before the steps are.
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
\pset fieldsep ' '
CREATE FUNCTION rendered(template text, more jsonb DEFAULT '{}') RETURNS text LANGUAGE sql
    RETURN content(pgml.chat_completion(
        ask('echo', '', '{"messages": [{"role": "system", "content": "Be a pirate"}, {"role": "user", "content": "Ahoy <there>"}]}')
        || jsonb_build_object('chat_template', template) || more));

-- The specification's template, which writes special tokens: the engine tells them.
SELECT rendered($${% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}$$);
-- As Hugging Face has it: Python's methods, filters, tests, tojson with Python's spaces, loops with controls, macros.
SELECT rendered('{{ messages[-1].content.strip().upper() }}|{{ messages | length }}|{{ messages[0] | tojson }}');
SELECT rendered('{% macro m(x) %}[{{ x }}]{% endmacro %}{% set ns = namespace(found=false) %}{% for x in messages %}{% if x.role == "user" %}{% set ns.found = true %}{{ m(x.content) }}{% break %}{% endif %}{% endfor %}{{ ns.found }}');
SELECT rendered('{%- if tools is defined and tools is not none %}{{ tools[0].function.name }}{%- else %}no tools{%- endif %}|{{ missing }}|{{ messages[0].missing is defined }}');
SELECT rendered('{{ tools[0].function.name }}', '{"tools": [{"type": "function", "function": {"name": "weather"}}]}');
SELECT rendered('{{ mood }} {{ add_generation_prompt }}', '{"chat_template_kwargs": {"mood": "merry"}}');
-- The caller's variables do not replace the messages.
SELECT rendered('{{ messages[0].content }}', '{"chat_template_kwargs": {"messages": [{"content": "other"}]}}');
SELECT rendered('plain text'), rendered('{# nothing #}') = '' AS nothing;
-- The engine puts its first token before every text by itself, so it is not sent twice.
SELECT rendered('{{ bos_token }}one {{ bos_token }}');
-- It is the older endpoint that continues a text.
SELECT content(pgml.chat_completion(ask('path', 'hi', '{"chat_template": "x"}')));
SELECT content(pgml.chat_completion(ask('path', 'hi')));
-- That one has other parameters: a prompt in place of messages, and the limit by its older name.
SELECT content(pgml.chat_completion(ask('request', 'hi', '{"chat_template": "{{ messages[0].content }}", "max_completion_tokens": 9, "stop": "x"}')));
-- Streams and choices as without a template.
SELECT string_agg(c #>> '{choices,0,delta,content}', '/' ORDER BY i), count(c #> '{choices,0,delta,role}'), max(c #>> '{choices,0,finish_reason}')
FROM pgml.chat_completion_stream(ask('echo', 'a b c', '{"chat_template": "{{ messages[0].content }}"}')) WITH ORDINALITY AS s(c, i);
SELECT c #> '{choices,0,message}', c #> '{choices,1,message}', c -> 'usage'
FROM pgml.chat_completion(ask('echo', 'a b c', '{"chat_template": "{{ messages[0].content }}", "n": 2}')) AS c;
-- Rendered once for each row of a table.
SELECT string_agg(content(pgml.chat_completion(ask('echo', name, '{"chat_template": "Dear {{ messages[0].content }}"}'))), '; ' ORDER BY name)
FROM (VALUES ('Ann'), ('Bob')) AS people(name);

-- Templates that cannot be used. None of them reaches the engine.
SELECT meter() \gset
SELECT template, E'\n   ', e.code, e.message, e.detail
FROM unnest(ARRAY[
    '{% for %}', '{{ messages', '{% if true %}', '{{ 1 + }}', '{% unknown %}', '{{ messages | nofilter }}',
    '{{ raise_exception("System role not supported") }}', '{{ nothing.at.all }}', '{{ messages.append(1) }}', '{{ 1 / 0 }}',
    '{% include "/etc/passwd" %}', '{% import "os" as os %}', '{{ open("/etc/passwd") }}', '{{ messages.__class__.__mro__ }}',
    '{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}',
    '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}'
]) WITH ORDINALITY AS bad(template, i), LATERAL raised(format('SELECT rendered(%L)', template)) AS e ORDER BY i;
SELECT meter();
-- What takes much memory in few steps is stopped too.
SET statement_timeout = '20s';
SELECT template, E'\n   ', e.code, e.message
FROM unnest(ARRAY[
    '{% set ns = namespace(s="xxxxxxxxxxxxxxxx") %}{% for i in range(40) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s | length }}',
    '{{ "x" * 99999999999 }}', '{{ "%099999999999d" | format(1) }}', '{{ range(999999999) | list | length }}'
]) WITH ORDINALITY AS bad(template, i), LATERAL raised(format('SELECT rendered(%L)', template)) AS e ORDER BY i;
RESET statement_timeout;
DROP FUNCTION rendered;
