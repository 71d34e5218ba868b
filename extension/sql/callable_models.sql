-- The names that the current role can call, for the hint of an unknown model. See route.sql for
-- why every name has its schema.
SELECT pg_catalog.string_agg(pg_catalog.quote_literal(m.name), ', ' ORDER BY m.name)
FROM pgml.models m
JOIN pg_catalog.pg_foreign_server s ON s.srvname OPERATOR(pg_catalog.=) m.server
WHERE pg_catalog.has_server_privilege(s.oid, 'USAGE')
