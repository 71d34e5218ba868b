-- OpenAI's list of models: those whose engine the current role may use.
SELECT json_build_object(
    'object', 'list',
    'data', coalesce(
        json_agg(
            json_build_object(
                'id', m.name,
                'object', 'model',
                'created', extract(epoch FROM m.created)::bigint,
                'owned_by', m.server
            )
            ORDER BY m.name
        ),
        '[]'
    )
)
FROM pgml.models m
JOIN pg_catalog.pg_foreign_server s ON s.srvname = m.server
WHERE has_server_privilege(s.oid, 'USAGE')
