-- Errors in transactions and in plpgsql: each has its own condition, and none does lasting harm.
\set SHOW_CONTEXT never
DO $$
DECLARE
    request jsonb;
BEGIN
    FOREACH request IN ARRAY ARRAY[
        ask('echo', '', '{"n": 0}'), ask('nobody', ''), ask('error-400', ''), ask('error-401', ''), ask('error-403', ''),
        ask('error-429', ''), ask('error-500', ''), ask('error-501', ''), ask('dying', ''), ask('nonsense', ''), ask('echo', 'fine')
    ] LOOP
        BEGIN
            RAISE NOTICE '% says %', request ->> 'model', content(pgml.chat_completion(request));
        EXCEPTION
            WHEN invalid_parameter_value THEN RAISE NOTICE '%: invalid_parameter_value', request ->> 'model';
            WHEN undefined_object THEN RAISE NOTICE '%: undefined_object', request ->> 'model';
            WHEN invalid_authorization_specification THEN RAISE NOTICE '%: invalid_authorization_specification', request ->> 'model';
            WHEN insufficient_privilege THEN RAISE NOTICE '%: insufficient_privilege', request ->> 'model';
            WHEN insufficient_resources THEN RAISE NOTICE '%: insufficient_resources', request ->> 'model';
            WHEN connection_exception THEN RAISE NOTICE '%: connection_exception %', request ->> 'model', SQLSTATE;
            WHEN feature_not_supported THEN RAISE NOTICE '%: feature_not_supported', request ->> 'model';
            WHEN system_error THEN RAISE NOTICE '%: system_error', request ->> 'model';
        END;
    END LOOP;
END
$$;

-- A savepoint brings back what an error undoes, and what was done before it stays.
CREATE TABLE answers (question text, answer text);
BEGIN;
INSERT INTO answers VALUES ('hi', content(pgml.chat_completion(ask('echo', 'hi'))));
SAVEPOINT s;
\set VERBOSITY terse
INSERT INTO answers VALUES ('ho', content(pgml.chat_completion(ask('error-500', 'ho'))));
SELECT 1;
ROLLBACK TO s;
INSERT INTO answers VALUES ('ho', content(pgml.chat_completion(ask('echo', 'ho'))));
COMMIT;
SELECT * FROM answers ORDER BY 1;
-- Without one, a statement is done as a whole or not at all.
INSERT INTO answers SELECT m, content(pgml.chat_completion(ask(m, 'x'))) FROM unnest(ARRAY['echo', 'dying']) AS m;
SELECT count(*) FROM answers;
DROP TABLE answers;

-- statement_timeout ends a request, whatever it waits for, and the engine notices.
SELECT meter() \gset
SET statement_timeout = '500ms';
\set VERBOSITY default
SELECT pgml.chat_completion(ask('silent', ''), request_id => 'mine');
-- Postgres may notice while it counts, too, and knows of no request then.
\set VERBOSITY terse
SELECT count(*) FROM (SELECT pgml.chat_completion_stream(ask('endless', '', '{"n": 3}'))) AS s;
RESET statement_timeout;
SELECT meter();
-- So does a cancel that plpgsql catches.
SET statement_timeout = '500ms';
DO $$
BEGIN
    PERFORM pgml.chat_completion(ask('silent', ''));
EXCEPTION WHEN query_canceled THEN
    RAISE NOTICE 'cancelled: % %', SQLSTATE, SQLERRM;
END
$$;
RESET statement_timeout;
SELECT substring(meter() FROM 'requests: \d+'), content(pgml.chat_completion(ask('echo', 'and on it goes')));
-- Many errors leave no open socket behind.
CREATE FUNCTION open_files() RETURNS bigint LANGUAGE sql
    RETURN (SELECT count(*) FROM pg_ls_dir(format('/proc/%s/fd', pg_backend_pid())));
SELECT open_files() AS before \gset
SELECT count(*) FILTER (WHERE (raised(format('SELECT pgml.chat_completion_stream(%L)', ask('failing', '', '{"n": 2}')))).code = '53000')
FROM generate_series(1, 200);
SELECT open_files() - :before AS "more open files";
DROP FUNCTION open_files;
