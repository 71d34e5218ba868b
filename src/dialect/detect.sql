-- Which of our and of PostgresML's functions this role can call: ours, theirs, whether there are any
-- at all, and the version of the extension. Asked of the catalog: a lookup by name fails without a
-- right to the schema, and pgml.version() is missing from versions before 3.
WITH functions AS (
    SELECT p.proname,
           has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE') AS callable
    FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'pgml'
      AND p.proname IN ('chat_completion', 'chat_completion_stream', 'transform', 'transform_stream')
)
SELECT count(DISTINCT proname) FILTER (WHERE callable AND proname LIKE 'chat%') = 2,
       count(DISTINCT proname) FILTER (WHERE callable AND proname LIKE 'transform%') = 2,
       count(*) > 0,
       (SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'pgml')
FROM functions
