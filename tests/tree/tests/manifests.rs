//! What is applied to a cluster claims no field that somebody else writes, and refuses what the programs refuse.

use tree::{File, files};

#[test]
fn an_aggregated_role_leaves_its_rules_to_kubernetes() {
    let aggregated: Vec<(String, String)> = ["config", "helm"]
        .into_iter()
        .flat_map(|folder| files(folder, ".yaml"))
        .flat_map(|File { path, text }| {
            let objects = text.split("\n---\n").filter(|object| object.contains("\naggregationRule:\n"));
            objects.map(|object| (path.clone(), object.to_owned())).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(aggregated.len(), 2, "one of kustomize and one of the chart: {aggregated:#?}");
    for (path, object) in aggregated {
        assert!(
            !object.lines().any(|line| line.starts_with("rules:")),
            "{path}: a second server-side apply conflicts with Kubernetes over .rules"
        );
    }
}
