//! The `CustomResourceDefinition` that is published.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use super::ChatCluster;

/// The definition of `ChatCluster`.
pub fn definition() -> CustomResourceDefinition {
    let mut definition = ChatCluster::crd();
    for version in &mut definition.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            default_for_null(schema);
        }
    }
    definition
}

/// Has the API server put the default in place of a null, as it does where none is allowed
/// (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#defaulting-and-nullable>). The types
/// read no null there, and kube allows one for whatever may be a number or a text.
fn default_for_null(schema: &mut JSONSchemaProps) {
    if schema.default.is_some() {
        schema.nullable = None;
    }
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(default_for_null);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        default_for_null(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        default_for_null(values);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The paths of fields that have a default and may be null.
    fn wrong(path: &str, schema: &Value, into: &mut Vec<String>) {
        if schema["nullable"] == true && !schema["default"].is_null() {
            into.push(path.into());
        }
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            wrong(&format!("{path}.{name}"), schema, into);
        }
        for inner in ["items", "additionalProperties"] {
            if schema[inner].is_object() {
                wrong(&format!("{path}.{inner}"), &schema[inner], into);
            }
        }
    }

    #[test]
    fn what_has_a_default_may_not_be_null() {
        let find = |definition: CustomResourceDefinition| {
            let definition = serde_json::to_value(definition).unwrap();
            let mut found = Vec::new();
            wrong("", &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"], &mut found);
            found
        };
        assert!(find(ChatCluster::crd()).contains(&".spec.updateStrategy.maxSurge".into()), "kube has it right by now");
        assert_eq!(find(definition()), [""; 0]);
    }
}
