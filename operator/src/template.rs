//! Which pod template a StatefulSet has. Pure.
//!
//! What was applied is noted on the StatefulSet as a hash, so that a field that is no longer wanted is noticed too; what somebody else
//! changed is seen from the live object.

use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::PodTemplateSpec};
use kube::ResourceExt;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{names, same::same, validate::hex};

/// The annotation that tells which template was applied.
const TEMPLATE: &str = "chatcluster.dev/template";

/// Notes on a StatefulSet which template it has.
pub fn note(mut set: StatefulSet) -> StatefulSet {
    let hash = set.spec.as_ref().map(|spec| hash(&spec.template)).unwrap_or_default();
    set.annotations_mut().insert(TEMPLATE.into(), hash);
    set
}

/// Whether the StatefulSet has the desired template, whatever its window.
pub fn has(observed: &StatefulSet, desired: &StatefulSet) -> bool {
    let template =
        |set: &StatefulSet| set.spec.as_ref().map(|spec| serde_json::to_value(&spec.template).unwrap_or(Value::Null));
    let applied = |set: &StatefulSet| set.annotations().get(TEMPLATE).cloned();
    if applied(observed) != applied(desired) {
        return false;
    }
    matches!((template(desired), template(observed)), (Some(desired), Some(live)) if same(&desired, &live))
}

/// The image of its nodes.
pub fn image(set: &StatefulSet) -> Option<String> {
    let pod = set.spec.as_ref()?.template.spec.as_ref()?;
    pod.containers.iter().find(|container| container.name == names::CONTAINER)?.image.clone()
}

/// A hash of what is written. Struct fields and ordered maps always encode in the same order.
pub fn hash<T: Serialize>(value: &T) -> String {
    hex(&Sha256::digest(serde_json::to_vec(value).unwrap_or_default()))
}

/// Gives a StatefulSet the template of a revision, and notes that.
pub fn at_revision(mut set: StatefulSet, revision: &str, template: PodTemplateSpec) -> StatefulSet {
    if let Some(spec) = &mut set.spec {
        spec.template = template;
    }
    set.annotations_mut().insert(TEMPLATE.into(), revision.to_owned());
    set
}

/// What was noted of a StatefulSet's template: a hash, or the name of a revision.
pub fn noted(set: &StatefulSet) -> String {
    set.annotations().get(TEMPLATE).cloned().unwrap_or_default()
}
