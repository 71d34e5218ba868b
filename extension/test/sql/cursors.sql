-- Streams that are read in parts, and ended early: the engine's work ends with them.
\set SHOW_CONTEXT never
SELECT meter() \gset
BEGIN;
DECLARE words CURSOR FOR SELECT pgml.chat_completion_stream(ask('endless', '')) #>> '{choices,0,delta,content}' AS word;
FETCH 2 FROM words;
FETCH 1 FROM words;
MOVE 7 IN words;
FETCH 1 FROM words;
FETCH BACKWARD 1 FROM words;
ROLLBACK;
SELECT meter();

-- CLOSE, COMMIT, ROLLBACK TO: each ends it.
BEGIN;
DECLARE words CURSOR FOR SELECT pgml.chat_completion_stream(ask('endless', ''));
MOVE 3 IN words;
CLOSE words;
SELECT meter();
DECLARE words CURSOR FOR SELECT pgml.chat_completion_stream(ask('endless', '', '{"n": 2}'));
MOVE 3 IN words;
COMMIT;
SELECT meter();
BEGIN;
SAVEPOINT s;
DECLARE words CURSOR FOR SELECT pgml.chat_completion_stream(ask('endless', ''));
MOVE 3 IN words;
ROLLBACK TO s;
SELECT meter();
-- A cursor that nothing is fetched from asks nobody. One that is read to its end stays there.
DECLARE unread CURSOR FOR SELECT pgml.chat_completion_stream(ask('endless', ''));
CLOSE unread;
SELECT meter();
DECLARE whole CURSOR FOR SELECT pgml.chat_completion_stream(ask('echo', 'a b')) #>> '{choices,0,delta,content}' AS word;
FETCH ALL FROM whole;
FETCH ALL FROM whole;
-- Several at once, with other requests in between.
DECLARE one CURSOR FOR SELECT pgml.chat_completion_stream(ask('echo', 'a b c')) #>> '{choices,0,delta,content}' AS word;
DECLARE other CURSOR FOR SELECT pgml.chat_completion_stream(ask('echo', 'x y z')) #>> '{choices,0,delta,content}' AS word;
FETCH 1 FROM one;
FETCH 1 FROM other;
SELECT content(pgml.chat_completion(ask('echo', 'in between')));
FETCH 1 FROM one;
FETCH 1 FROM other;
FETCH ALL FROM one;
FETCH ALL FROM other;
COMMIT;
SELECT meter();
-- WITH HOLD makes all rows at COMMIT.
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT pgml.chat_completion_stream(ask('echo', 'a b')) #>> '{choices,0,delta,content}' AS word;
COMMIT;
FETCH 2 FROM held;
CLOSE held;
SELECT meter();

-- LIMIT.
SELECT pgml.chat_completion_stream(ask('endless', '')) #>> '{choices,0,delta,content}' AS word LIMIT 3;
SELECT meter();
SELECT EXISTS (SELECT pgml.chat_completion_stream(ask('endless', '')));
SELECT meter();

-- A loop in plpgsql, left early, by EXIT or by an error.
DO $$
DECLARE
    chunk json;
BEGIN
    FOR chunk IN SELECT pgml.chat_completion_stream(ask('endless', '')) LOOP
        RAISE NOTICE '%', chunk #>> '{choices,0,delta,content}';
        EXIT WHEN chunk #>> '{choices,0,delta,content}' = '3 ';
    END LOOP;
    RAISE NOTICE '%', meter();
    BEGIN
        FOR chunk IN SELECT pgml.chat_completion_stream(ask('endless', '')) LOOP
            RAISE EXCEPTION 'enough';
        END LOOP;
    EXCEPTION WHEN raise_exception THEN
        RAISE NOTICE '%', meter();
    END;
END
$$;
-- A function that returns what it reads.
CREATE FUNCTION words(question text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    words CURSOR FOR SELECT pgml.chat_completion_stream(ask('endless', question)) #>> '{choices,0,delta,content}' AS word;
BEGIN
    FOR row IN words LOOP
        RETURN NEXT row.word;
        EXIT WHEN row.word >= '4';
    END LOOP;
END
$$;
SELECT * FROM words('');
SELECT meter();
DROP FUNCTION words;
-- The rows of one session's streams leave no open connections behind.
CREATE FUNCTION open_files() RETURNS bigint LANGUAGE sql
    RETURN (SELECT count(*) FROM pg_ls_dir(format('/proc/%s/fd', pg_backend_pid())));
SELECT open_files() AS before \gset
SELECT count((SELECT count(*) FROM (SELECT pgml.chat_completion_stream(ask('endless', i::text)) LIMIT 2) AS s)) AS streams
FROM generate_series(1, 50) AS i;
SELECT open_files() - :before AS "more open files";
DROP FUNCTION open_files;
SELECT meter();
