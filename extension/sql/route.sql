-- Where a request for a model goes: $1 its name, $2 its revision or null, $3 pgml.default_server.
WITH route AS (
    SELECT server, engine_model, 1 AS choice FROM pgml.models WHERE name = $1 || '@' || $2
    UNION ALL
    SELECT server, engine_model, 2 FROM pgml.models WHERE name = $1
    UNION ALL
    SELECT $3::name, concat_ws('@', $1, $2), 3 WHERE $3 <> ''
    ORDER BY choice
    LIMIT 1
)
SELECT route.server::text,
       route.engine_model,
       s.oid,
       s.srvoptions,
       coalesce(has_server_privilege(s.oid, 'USAGE'), false)
FROM route
LEFT JOIN (pg_catalog.pg_foreign_server s JOIN pg_catalog.pg_foreign_data_wrapper w
           ON w.oid = s.srvfdw AND w.fdwname = 'pgml')
       ON s.srvname = route.server
