-- Where a request for a model goes: $1 its name, $2 its revision or null, $3 pgml.default_server.
--
-- Every function and operator is named with its schema: a caller's search_path must not be able
-- to put a has_server_privilege() of its own in the place of Postgres's.
WITH route AS (
    SELECT server, engine_model, 1 AS choice
    FROM pgml.models
    WHERE name OPERATOR(pg_catalog.=) ($1 OPERATOR(pg_catalog.||) '@' OPERATOR(pg_catalog.||) $2)
    UNION ALL
    SELECT server, engine_model, 2 FROM pgml.models WHERE name OPERATOR(pg_catalog.=) $1
    UNION ALL
    SELECT $3::pg_catalog.name, pg_catalog.concat_ws('@', $1, $2), 3
    WHERE $3 OPERATOR(pg_catalog.<>) ''
    ORDER BY choice
    LIMIT 1
)
SELECT route.server::pg_catalog.text,
       route.engine_model,
       s.oid,
       s.srvoptions,
       coalesce(pg_catalog.has_server_privilege(s.oid, 'USAGE'), false)
FROM route
LEFT JOIN (pg_catalog.pg_foreign_server s JOIN pg_catalog.pg_foreign_data_wrapper w
           ON w.oid OPERATOR(pg_catalog.=) s.srvfdw AND w.fdwname OPERATOR(pg_catalog.=) 'pgml')
       ON s.srvname OPERATOR(pg_catalog.=) route.server
