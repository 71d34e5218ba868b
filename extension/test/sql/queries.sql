-- Completions as part of queries: only those are made whose rows are wanted.
\set SHOW_CONTEXT never
CREATE TABLE questions (id int PRIMARY KEY, question text);
INSERT INTO questions SELECT i, 'question ' || i FROM generate_series(1, 100) AS i;
ANALYZE questions;
SELECT meter() \gset

-- One a row.
SELECT id, content(pgml.chat_completion(ask('echo', question))) AS answer FROM questions WHERE id <= 3 ORDER BY id;
SELECT meter();
-- Rows that LIMIT drops cost nothing, nor do those before an OFFSET, with an order or without.
SELECT content(pgml.chat_completion(ask('echo', question))) AS answer FROM questions LIMIT 2;
SELECT meter();
SELECT id, content(pgml.chat_completion(ask('echo', question))) AS answer FROM questions ORDER BY id DESC LIMIT 2;
SELECT meter();
SELECT content(pgml.chat_completion(ask('echo', question))) AS answer FROM questions ORDER BY length(question) DESC, id LIMIT 1;
SELECT meter();
SELECT count(*) FROM (SELECT content(pgml.chat_completion(ask('echo', question))) FROM questions LIMIT 0) AS none;
SELECT meter();
-- Cheaper conditions come first, however they are written.
SELECT id FROM questions WHERE content(pgml.chat_completion(ask('echo', question))) LIKE 'question%' AND id + 0 = 7;
SELECT meter();
SELECT id FROM questions WHERE content(pgml.chat_completion(ask('echo', question))) LIKE 'question%' AND id = 7;
SELECT meter();
-- CASE and COALESCE do not call what they do not need.
SELECT id, CASE WHEN id = 2 THEN content(pgml.chat_completion(ask('echo', question))) END AS answer FROM questions WHERE id <= 3 ORDER BY id;
SELECT meter();
-- A column of a subquery is one answer, however often it is used; two calls of one request are two.
SELECT id = id AS same FROM (SELECT pgml.chat_completion(ask('echo', 'x')) ->> 'id' AS id) AS s;
SELECT meter();
SELECT pgml.chat_completion(ask('echo', 'x')) ->> 'id' = pgml.chat_completion(ask('echo', 'x')) ->> 'id' AS same;
SELECT meter();

-- EXPLAIN asks nobody; a prepared statement is not made constant.
DO $$ BEGIN EXECUTE $e$EXPLAIN SELECT pgml.chat_completion('{"model": "echo", "messages": [{"role": "user", "content": "hi"}]}')$e$; END $$;
PREPARE p AS SELECT content(pgml.chat_completion('{"model": "echo", "messages": [{"role": "user", "content": "hi"}]}'));
SELECT meter();
EXECUTE p;
EXECUTE p;
SELECT meter();
DEALLOCATE p;

-- Into tables, by triggers, by functions of one's own; streams as tables.
ALTER TABLE questions ADD answer text;
UPDATE questions SET answer = content(pgml.chat_completion(ask('echo', upper(question)))) WHERE id IN (5, 6);
SELECT * FROM questions WHERE answer IS NOT NULL ORDER BY id;
CREATE FUNCTION answer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.answer := content(pgml.chat_completion(ask('echo', NEW.question)));
    RETURN NEW;
END
$$;
CREATE TRIGGER answer BEFORE INSERT ON questions FOR EACH ROW EXECUTE FUNCTION answer();
INSERT INTO questions VALUES (101, 'by a trigger') RETURNING answer;
SELECT id, string_agg(c #>> '{choices,0,delta,content}', '/' ORDER BY i) AS answer
FROM questions, LATERAL pgml.chat_completion_stream(ask('echo', question)) WITH ORDINALITY AS s(c, i)
WHERE id BETWEEN 1 AND 2 GROUP BY id ORDER BY id;
-- Two streams side by side, and one within another's rows.
SELECT pgml.chat_completion_stream(ask('echo', 'a b')) #>> '{choices,0,delta,content}' AS one,
       pgml.chat_completion_stream(ask('echo', 'c d e')) #>> '{choices,0,delta,content}' AS other;
SELECT c #>> '{choices,0,delta,content}' AS word, content(pgml.chat_completion(ask('echo', upper(c #>> '{choices,0,delta,content}')))) AS louder
FROM pgml.chat_completion_stream(ask('echo', 'so loud')) AS c WHERE c #>> '{choices,0,finish_reason}' IS NULL;

-- Parallel plans are possible; completions are made by the leader.
SELECT meter() \gset
SET max_parallel_workers_per_gather = 2;
SET min_parallel_table_scan_size = 0;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SELECT count(content(pgml.chat_completion(ask('echo', question)))) FROM questions WHERE length(question) = 10;
RESET ALL;
SELECT meter();
DROP TABLE questions;
DROP FUNCTION answer;
