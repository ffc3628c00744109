//! What the operator may do, and why: one table, from which the roles and the page about them are made.
//!
//! Pure. It must never hold a wildcard, nor a right that nothing needs: the tests on a cluster compare it with what was asked of the API
//! server. A right that is missing here is refused there.

use std::fmt::Write;

/// Rights on some resources of one group.
#[derive(Clone, Copy, Debug)]
pub struct Right {
    /// The API group; empty for the core.
    pub group: &'static str,
    /// The resources, with a subresource after a slash.
    pub resources: &'static [&'static str],
    /// The one object, where the right is for no other.
    pub name: Option<&'static str>,
    /// The verbs.
    pub verbs: &'static [&'static str],
    /// Why.
    pub why: &'static str,
}

/// A right that no claim on a cluster exercises.
#[derive(Clone, Copy, Debug)]
pub struct Unseen {
    /// The resource.
    pub resource: &'static str,
    /// The verb.
    pub verb: &'static str,
    /// Why it is needed all the same.
    pub why: &'static str,
}

const fn right(
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    why: &'static str,
) -> Right {
    Right { group, resources, name: None, verbs, why }
}

const fn unseen(resource: &'static str, verb: &'static str, why: &'static str) -> Unseen {
    Unseen { resource, verb, why }
}

/// What is made for a cluster is applied, told of by a watch, and deleted when nothing names it any more.
const CHILD: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

/// The same, where nothing is ever left over: it goes with its cluster, by owner.
const LASTING_CHILD: &[&str] = &["get", "list", "watch", "create", "patch"];

/// Rights in the namespaces that are watched.
pub const RIGHTS: [Right; 12] = [
    right("chatcluster.dev", &["chatclusters"], &["list", "watch"], "what users want; never written"),
    right("chatcluster.dev", &["chatclusters/status"], &["patch"], "what is reported"),
    right(
        "chatcluster.dev",
        &["chatclusters/finalizers"],
        &["update"],
        "owner references that block deletion need it where OwnerReferencesPermissionEnforcement is on",
    ),
    right("apps", &["statefulsets"], LASTING_CHILD, "the pods; get finds whose it is when the name is taken"),
    right("apps", &["controllerrevisions"], &["list", "watch"], "the templates that a rollout can go back to"),
    right("", &["services", "configmaps"], CHILD, "what clients and pods find; those that nothing names are deleted"),
    right("", &["serviceaccounts"], LASTING_CHILD, "who the pods are"),
    right("policy", &["poddisruptionbudgets"], LASTING_CHILD, "how many nodes may be evicted"),
    right(
        "",
        &["secrets"],
        &["get", "list", "watch", "create"],
        "watched by metadata alone, and read where a ChatCluster refers to one; none is written but the signing key, once",
    ),
    right("", &["pods"], &["list", "watch", "delete"], "how nodes are; deleted only when the machine is dead"),
    right("discovery.k8s.io", &["endpointslices"], &["list", "watch"], "whom clients are led to"),
    right("events.k8s.io", &["events"], &["create", "patch"], "the story of a cluster"),
];

/// Rights on what other operators make, and on machines. A Role cannot give the latter.
pub const FOREIGN: [Right; 3] = [
    right(
        "postgresql.cnpg.io",
        &["clusters"],
        LASTING_CHILD,
        "looked at for a binding, made for one that is managed; never deleted, which is left to Kubernetes, by owner",
    ),
    right("rabbitmq.com", &["rabbitmqclusters"], LASTING_CHILD, "likewise"),
    right(
        "",
        &["nodes"],
        &["get"],
        "whether the machine of a pod that does not end is dead; without it the pod's conditions tell",
    ),
];

/// Rights in the operator's own namespace.
pub const LEASE: [Right; 2] = [
    right("coordination.k8s.io", &["leases"], &["create"], "leader election; create cannot be narrowed to a name"),
    Right {
        name: Some("chatcluster-operator"),
        ..right("coordination.k8s.io", &["leases"], &["get", "update"], "leader election, of this Lease alone")
    },
];

const TAKEN: &str = "asked only when somebody else's object has the name";

/// What the claims of `make e2e` do not exercise.
pub const UNSEEN: [Unseen; 11] = [
    unseen(
        "chatclusters/finalizers",
        "update",
        "asked of nobody: admission looks at it when an owner reference is written",
    ),
    unseen("services", "delete", "only when another version of the operator gave them other names"),
    unseen("configmaps", "delete", "only after more rollouts than a StatefulSet keeps revisions of: ten"),
    unseen("statefulsets", "get", TAKEN),
    unseen("configmaps", "get", TAKEN),
    unseen("serviceaccounts", "get", TAKEN),
    unseen("poddisruptionbudgets", "get", TAKEN),
    unseen("clusters", "get", TAKEN),
    unseen("rabbitmqclusters", "get", TAKEN),
    unseen("pods", "delete", "only a claim of `make proof` kills a machine"),
    unseen("nodes", "get", "likewise"),
];

/// Every right.
pub fn all() -> impl Iterator<Item = Right> {
    RIGHTS.into_iter().chain(FOREIGN).chain(LEASE)
}

/// Whether a verb on a resource is granted.
pub fn is_granted(group: &str, resource: &str, verb: &str) -> bool {
    all().any(|right| right.group == group && right.resources.contains(&resource) && right.verbs.contains(&verb))
}

const MADE: &str = "# Made by `make generate` from operator/src/rights.rs.\n";

/// The ClusterRole for what is watched.
pub fn role() -> String {
    let mut yaml = format!(
        "{MADE}apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: chatcluster-operator\nrules:\n"
    );
    RIGHTS.iter().chain(&FOREIGN).for_each(|right| rule(&mut yaml, right));
    yaml
}

/// The Role for the leader election.
pub fn leader_election_role() -> String {
    let mut yaml = format!(
        "{MADE}apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata:\n  name: chatcluster-operator-leader-election\n  \
         namespace: chatcluster-system\nrules:\n"
    );
    LEASE.iter().for_each(|right| rule(&mut yaml, right));
    yaml
}

fn rule(yaml: &mut String, right: &Right) {
    let Right { group, resources, name, verbs, why } = right;
    let group = if group.is_empty() { "\"\"" } else { group };
    let name = name.map(|name| format!("    resourceNames: [{name}]\n")).unwrap_or_default();
    // Writing to a String does not fail.
    let _ = write!(
        yaml,
        "  # {why}\n  - apiGroups: [{group}]\n    resources: [{}]\n{name}    verbs: [{}]\n",
        resources.join(", "),
        verbs.join(", ")
    );
}

/// The page about them.
pub fn page() -> String {
    let mut page = String::from(PREFACE);
    for Right { group, resources, name, verbs, why } in all() {
        let group = if group.is_empty() { "core" } else { group };
        let resources = resources.iter().map(|resource| format!("`{resource}`")).collect::<Vec<_>>().join(", ");
        let of = name.map(|name| format!(" `{name}`")).unwrap_or_default();
        let _ = writeln!(page, "| {group} | {resources}{of} | {} | {why} |", verbs.join(", "));
    }
    page.push_str(UNSEEN_PREFACE);
    for Unseen { resource, verb, why } in UNSEEN {
        let _ = writeln!(page, "| `{resource}` | {verb} | {why} |");
    }
    page
}

const PREFACE: &str = "\
# What the operator may do

Made by `make generate` from [operator/src/rights.rs](../operator/src/rights.rs), as the roles in [config/rbac](../config/rbac) and in the chart are.
No wildcard, no write to a spec of a ChatCluster, no Secret but those that a ChatCluster refers to. A claim of `make e2e` reads the API
server's audit log: every right was used, or is in the second table, and nothing in the first was refused.

| group | resources | verbs | why |
|---|---|---|---|
";

const UNSEEN_PREFACE: &str = "
Bindings of the form `serviceBinding` need more, which whoever offers the service brings (`servicebinding.io/controller`, see
[operations.md](operations.md)).

## Not exercised by a claim

| resource | verb | why it is there |
|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares a file with what it is made of; with `CHATCLUSTER_GENERATE` set it is written.
    fn check(path: &str, made: &str) {
        let file = tree::root().join(path);
        if std::env::var_os("CHATCLUSTER_GENERATE").is_some() {
            return std::fs::write(file, made).unwrap();
        }
        assert!(std::fs::read_to_string(file).unwrap_or_default() == made, "{path} is stale: run `make generate`");
    }

    #[test]
    fn the_roles_and_the_page_are_those_of_the_table() {
        for folder in ["config/rbac", "helm/chatcluster-operator/files/rbac"] {
            check(&format!("{folder}/role.yaml"), &role());
            check(&format!("{folder}/leader_election_role.yaml"), &leader_election_role());
        }
        check("docs/rbac.md", &page());
    }

    #[test]
    fn nothing_is_granted_by_a_wildcard_twice_or_to_write_what_users_want() {
        let mut granted = std::collections::BTreeSet::new();
        for right in all() {
            assert!(!right.group.contains('*') && !right.why.is_empty());
            for (resource, verb) in right.resources.iter().flat_map(|of| right.verbs.iter().map(move |verb| (of, verb)))
            {
                assert!(!resource.contains('*') && *verb != "*");
                assert!(granted.insert((right.group, *resource, *verb)), "{resource} {verb} is granted twice");
            }
        }
        for verb in ["create", "update", "patch", "delete"] {
            assert!(!is_granted("chatcluster.dev", "chatclusters", verb));
        }
        for Unseen { resource, verb, .. } in UNSEEN {
            assert!(
                granted.iter().any(|(_, of, by)| (*of, *by) == (resource, verb)),
                "{resource} {verb} is not granted"
            );
        }
    }
}
