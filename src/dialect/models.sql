-- OpenAI's list of models: those that the current role can call.
SELECT json_build_object(
    'object', 'list',
    'data', coalesce(
        json_agg(
            json_build_object(
                'id', name,
                'object', 'model',
                'created', extract(epoch FROM created)::bigint,
                'owned_by', server
            )
            ORDER BY name
        ),
        '[]'
    )
)
FROM pgml.callable_models
