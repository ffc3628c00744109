//! Files that are made from others are current.

use tree::File;

#[track_caller]
fn same(made: &str, copy: &str) {
    assert!(File::read(copy).text == made, "{copy} is stale: run `make generate`");
}

#[test]
fn the_crd_is_that_of_the_types() {
    let made = serde_yaml::to_string(&crds::chatcluster::definition()).unwrap();
    same(&made, "config/crd/chatclusters.chatcluster.dev.yaml");
    same(&made, "helm/chatcluster-operator/files/crds/chatclusters.chatcluster.dev.yaml");
}

#[test]
fn the_charts_roles_are_those_of_config() {
    for role in ["role", "leader_election_role", "editor_role", "viewer_role"] {
        let made = File::read(&format!("config/rbac/{role}.yaml")).text;
        same(&made, &format!("helm/chatcluster-operator/files/rbac/{role}.yaml"));
    }
}
