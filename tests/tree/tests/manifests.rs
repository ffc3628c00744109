//! What is applied to a cluster claims no field that somebody else writes, and tells what texts say that it does.

use serde_yaml::Value;
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

/// Whoever is woken by an alert runs what its summary names, and has to find the reason there.
#[test]
fn the_wide_list_that_alerts_name_has_the_reason() {
    let rules = File::read("config/monitoring/rules.yaml").text;
    assert_eq!(rules.matches("kubectl get chatclusters -A -o wide").count(), 2);
    let crd = crds::chatcluster::definition();
    let columns = crd.spec.versions[0].additional_printer_columns.iter().flatten();
    let shown: Vec<&str> = columns.map(|column| column.json_path.as_str()).collect();
    for told in ["reason", "message"] {
        let path = format!(".status.conditions[?(@.type=='Progressing')].{told}");
        assert!(shown.contains(&&*path), "{path} is no column: {shown:?}");
    }
}

/// What is written into the file itself is copied into the container, which is read only: it would not start.
#[test]
fn the_nodes_of_compose_find_their_files() {
    let compose: Value = serde_yaml::from_str(&File::read("compose.yaml").text).unwrap();
    let file = |config: &str| File::read(compose["configs"][config]["file"].as_str().unwrap()).text;
    assert_eq!(compose["configs"].as_mapping().unwrap().len(), 2);
    assert!(file("key").trim().len() >= 32);
    let node = crds::NodeConfig::from_yaml(&file("node")).unwrap();
    let key = node.auth.key_file.unwrap();
    let mounted = compose["x-node"]["configs"].as_sequence().unwrap();
    assert!(mounted.iter().any(|config| config["source"] == "key" && config["target"].as_str() == key.to_str()));
}
