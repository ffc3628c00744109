//! Prints the `CustomResourceDefinition` of `ChatCluster` as YAML.

use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let yaml = serde_yaml::to_string(&crds::chatcluster::definition())?;
    std::io::stdout().write_all(yaml.as_bytes())?;
    Ok(())
}
