-- The names that the current role can call, for the hint of an unknown model.
SELECT string_agg(quote_literal(name), ', ' ORDER BY name)
FROM pgml.models
WHERE server IN (SELECT srvname FROM pg_catalog.pg_foreign_server WHERE has_server_privilege(oid, 'USAGE'))
