//! The PersistentVolumes that tests can claim: prepared folders of this machine, because there is no provisioner. Empties and offers
//! again what was claimed and let go.

use std::{fs, os::unix::fs::PermissionsExt};

use anyhow::Result;
use serde_json::Value;

use crate::layout::Layout;

/// Claims that can be bound at the same time.
const COUNT: usize = 8;

/// Makes all folders, and tells the manifests of the volumes.
pub(crate) fn prepare(layout: &Layout) -> Result<String> {
    let manifests = (0..COUNT).map(|number| prepare_one(layout, &format!("local-{number}")));
    Ok(manifests.collect::<Result<Vec<_>>>()?.join("\n---\n"))
}

/// Makes one folder, empty, and tells the manifest of its volume.
pub(crate) fn prepare_one(layout: &Layout, name: &str) -> Result<String> {
    let path = layout.state().join("volumes").join(name);
    if path.exists() {
        fs::remove_dir_all(&path)?;
    }
    fs::create_dir_all(&path)?;
    // A pod without an fsGroup may write too, as to a fresh disk of most providers.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
    let manifest = include_str!("../manifests/volume.yaml");
    Ok(manifest.replace("${NAME}", name).replace("${PATH}", &path.display().to_string()))
}

/// The names of our volumes whose claims are gone, in a list as the API server gives it.
pub(crate) fn released(list: &Value) -> Vec<String> {
    let is_released = |volume: &&Value| matches!(volume["status"]["phase"].as_str(), Some("Released" | "Failed"));
    let volumes = list["items"].as_array().into_iter().flatten().filter(is_released);
    let names = volumes.filter_map(|volume| volume["metadata"]["name"].as_str());
    names.filter(|name| name.starts_with("local-")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_our_volumes_without_a_claim_are_offered_again() {
        let volume = |name: &str, phase: &str| json!({"metadata": {"name": name}, "status": {"phase": phase}});
        let list = json!({"items": [
            volume("local-0", "Bound"),
            volume("local-1", "Released"),
            volume("others", "Released"),
            volume("local-2", "Available"),
        ]});
        assert_eq!(released(&list), ["local-1"]);
    }
}
