//! Prints the `CustomResourceDefinition` of `ChatCluster` as YAML.

use std::io::Write;

use kube::CustomResourceExt;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let yaml = serde_yaml::to_string(&crds::ChatCluster::crd())?;
    std::io::stdout().write_all(yaml.as_bytes())?;
    Ok(())
}
