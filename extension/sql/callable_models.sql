-- The first names that the current role can call, and how many there are, for the hint of an
-- unknown model. See route.sql for why every name has its schema.
SELECT pg_catalog.string_agg(pg_catalog.quote_literal(name), ', ' ORDER BY name)
           FILTER (WHERE place OPERATOR(pg_catalog.<=) 10),
       pg_catalog.count(*)
FROM (SELECT name, pg_catalog.row_number() OVER (ORDER BY name) AS place FROM pgml.callable_models) AS numbered
