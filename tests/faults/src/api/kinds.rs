//! What the API server serves: names of kinds, and where they differ from each other.

/// A kind of object.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// API group; empty for the core.
    pub group: &'static str,
    /// Version of the group.
    pub version: &'static str,
    /// Name in paths. It stands for the kind: no two groups here share one.
    pub plural: &'static str,
    /// Name in objects.
    pub kind: &'static str,
    /// Whether `status` is written by a path of its own, and by no other.
    pub has_status: bool,
    /// Whether a change of the spec counts up `metadata.generation`.
    pub has_generation: bool,
}

const fn kind(group: &'static str, version: &'static str, plural: &'static str, kind: &'static str) -> Kind {
    Kind { group, version, plural, kind, has_status: false, has_generation: false }
}

const fn with_status(group: &'static str, version: &'static str, plural: &'static str, name: &'static str) -> Kind {
    Kind { has_status: true, has_generation: true, ..kind(group, version, plural, name) }
}

/// Every kind that is served.
pub static KINDS: [Kind; 14] = [
    with_status("chatcluster.dev", "v1alpha1", "chatclusters", "ChatCluster"),
    with_status("apps", "v1", "statefulsets", "StatefulSet"),
    kind("apps", "v1", "controllerrevisions", "ControllerRevision"),
    Kind { has_generation: false, ..with_status("", "v1", "services", "Service") },
    kind("", "v1", "configmaps", "ConfigMap"),
    kind("", "v1", "secrets", "Secret"),
    kind("", "v1", "serviceaccounts", "ServiceAccount"),
    with_status("", "v1", "pods", "Pod"),
    Kind { has_generation: false, ..with_status("", "v1", "nodes", "Node") },
    Kind { has_generation: false, ..with_status("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim") },
    kind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    with_status("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
    kind("events.k8s.io", "v1", "events", "Event"),
    kind("coordination.k8s.io", "v1", "leases", "Lease"),
];

impl Kind {
    /// `apiVersion` of its objects.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.into() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// The kind that a path names.
pub fn in_path(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| (kind.group, kind.version, kind.plural) == (group, version, plural))
}

/// The kind of a plural.
///
/// # Panics
/// When it is not served: the test that asks for it is wrong.
pub fn of(plural: &str) -> &'static Kind {
    KINDS.iter().find(|kind| kind.plural == plural).unwrap_or_else(|| panic!("no kind {plural} is served"))
}

/// How parts of objects are merged, where it is not as maps of their fields. After the `x-kubernetes-list-type` and
/// `x-kubernetes-map-type` of Kubernetes' OpenAPI document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// A map whose fields have owners.
    Fields,
    /// A list whose items are found by these keys.
    Keyed(&'static [&'static str]),
    /// A list of scalars, each with owners.
    Set,
    /// One value, with all within it.
    Atomic,
}

/// How the list or map in the field `name` is merged; `parent` is the name of the field that holds it.
pub fn merge(plural: &str, parent: &str, name: &str) -> Merge {
    match (parent, name) {
        ("metadata", "ownerReferences") => Merge::Keyed(&["uid"]),
        ("metadata", "finalizers") => Merge::Set,
        ("status", "conditions") => Merge::Keyed(&["type"]),
        _ if plural == "chatclusters" => Merge::Fields,
        ("spec", "ports") => Merge::Keyed(&["port", "protocol"]),
        ("containers", "ports") => Merge::Keyed(&["containerPort", "protocol"]),
        (_, "containers" | "env" | "volumes" | "imagePullSecrets") => Merge::Keyed(&["name"]),
        (_, "volumeMounts") => Merge::Keyed(&["mountPath"]),
        (_, "topologySpreadConstraints") => Merge::Keyed(&["topologyKey", "whenUnsatisfiable"]),
        (_, "labelSelector" | "nodeSelector" | "selector" | "fieldRef" | "secretKeyRef" | "configMapKeyRef") => {
            Merge::Atomic
        }
        _ => Merge::Fields,
    }
}
