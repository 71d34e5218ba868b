//! JSON schemas that become parts of other ones.

use serde_json::Value;

/// Makes the local references of a schema (`#`, `#/$defs/…`) lead to the same places as before,
/// once the schema stands at `place`, a local reference itself. False where there are none.
///
/// The definitions stay inside their schema, so that no two schemas' names can collide.
pub fn move_references(schema: &mut Value, place: &str) -> bool {
    match schema {
        Value::Object(keywords) => {
            keywords.iter_mut().fold(false, |moved, (keyword, value)| {
                moved
                    | match (keyword.as_str(), value) {
                        ("$ref", Value::String(reference)) => move_reference(reference, place),
                        // Data, which may look like a schema and is none.
                        ("const" | "default" | "enum" | "examples", _) => false,
                        // Schemas by names of the caller's, which may be those of keywords.
                        (
                            "properties" | "patternProperties" | "dependentSchemas" | "$defs" | "definitions",
                            Value::Object(schemas),
                        ) => schemas
                            .values_mut()
                            .fold(false, |moved, schema| moved | move_references(schema, place)),
                        (_, value) => move_references(value, place),
                    }
            })
        }
        Value::Array(schemas) => {
            schemas.iter_mut().fold(false, |moved, schema| moved | move_references(schema, place))
        }
        _ => false,
    }
}

fn move_reference(reference: &mut String, place: &str) -> bool {
    let local = reference == "#" || reference.starts_with("#/");
    if local {
        reference.replace_range(..1, place);
    }
    local
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn local_references_move_and_nothing_else_does() {
        let mut schema = json!({
            "$defs": {"X": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "const": {"$ref": "#/$defs/X"}},
            "properties": {
                "default": {"$ref": "#/definitions/Y"},
                "$ref": {"type": "string", "enum": [{"$ref": "#"}], "default": {"$ref": "#"}},
                "far": {"$ref": "https://example.com/schema#/$defs/X"},
            },
            "items": {"$ref": "#/properties/default"},
        });
        assert!(move_references(&mut schema, "#/$defs/tool_0"));
        let expected = json!({
            "$defs": {
                "X": {"anyOf": [{"$ref": "#/$defs/tool_0"}, {"type": "null"}]},
                "const": {"$ref": "#/$defs/tool_0/$defs/X"},
            },
            "properties": {
                "default": {"$ref": "#/$defs/tool_0/definitions/Y"},
                "$ref": {"type": "string", "enum": [{"$ref": "#"}], "default": {"$ref": "#"}},
                "far": {"$ref": "https://example.com/schema#/$defs/X"},
            },
            "items": {"$ref": "#/$defs/tool_0/properties/default"},
        });
        assert_eq!(schema, expected);
    }

    #[test]
    fn a_schema_without_references_has_none() {
        let mut schema = json!({"type": "object", "properties": {"a": {"enum": ["#", "#/a"]}}});
        let before = schema.clone();
        assert!(!move_references(&mut schema, "#/$defs/tool_0"));
        assert_eq!(schema, before);
    }
}
