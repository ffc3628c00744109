//! What is mounted, and where. Secrets are mounted, never copied.

use std::collections::BTreeMap;

use crds::{binding::CA_KEY, chatcluster::AuthSpec};
use k8s_openapi::{
    api::core::v1::{
        ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath, PersistentVolumeClaim, PersistentVolumeClaimSpec,
        ProjectedVolumeSource, SecretProjection, SecretVolumeSource, Volume, VolumeMount, VolumeProjection,
        VolumeResourceRequirements,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::config_map::{
    DATA_FOLDER, POSTGRES_FOLDER, RABBITMQ_FOLDER, REDIS_FOLDER, TOKEN_FOLDER, further_key_folder,
};
use crate::{
    bindings::{Mount, Sources},
    validate::{Backing, Cluster},
};

pub(super) const CONFIG_FOLDER: &str = "/etc/chatcluster";

/// Readable by the group of the pod, and by nobody else.
const SECRET_MODE: i32 = 0o440;

/// Volumes and where they are mounted, in the given shape of the template.
pub(super) fn volumes(
    cluster: &Cluster,
    config_name: &str,
    sources: &Sources,
    shape: i32,
) -> Vec<(Volume, VolumeMount)> {
    let mut volumes = vec![
        mounted("config", CONFIG_FOLDER, true, |volume| {
            volume.config_map = Some(ConfigMapVolumeSource {
                name: config_name.into(),
                default_mode: Some(0o444),
                ..ConfigMapVolumeSource::default()
            });
        }),
        mounted("auth", TOKEN_FOLDER, true, |volume| {
            volume.secret = Some(one_key(&cluster.token.0, &cluster.token.1));
        }),
    ];
    for (number, further) in cluster.spec.auth.iter().flat_map(AuthSpec::further_secrets).enumerate() {
        let (name, folder) = (format!("auth-key-{number}"), further_key_folder(number));
        volumes.push(mounted(&name, &folder, true, |volume| {
            volume.secret = Some(one_key(&further.name, &further.key));
        }));
    }
    match &cluster.backing {
        Backing::Bound => {
            let bound = [
                ("postgres", POSTGRES_FOLDER, &sources.postgres),
                ("rabbitmq", RABBITMQ_FOLDER, &sources.rabbitmq),
                ("redis", REDIS_FOLDER, &sources.redis),
            ];
            for (name, folder, mount) in bound {
                let Some(mount) = mount else { continue };
                volumes.push(mounted(name, folder, true, |volume| match shape {
                    1 => volume.secret = Some(secret(&mount.secret)),
                    _ => volume.projected = Some(projected(mount)),
                }));
            }
        }
        Backing::Embedded => {
            let (mut volume, mount) = mounted("data", DATA_FOLDER, false, |_| {});
            if cluster.spec.storage.is_none() {
                volume.empty_dir = Some(EmptyDirVolumeSource::default());
            }
            volumes.push((volume, mount));
        }
    }
    volumes
}

/// The claim of a self-contained node's volume.
pub(super) fn claim(cluster: &Cluster) -> Option<PersistentVolumeClaim> {
    let storage = cluster.spec.storage.clone().filter(|_| cluster.backing == Backing::Embedded)?;
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta { name: Some("data".into()), ..ObjectMeta::default() },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            storage_class_name: storage.storage_class_name,
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), storage.size)])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    })
}

fn one_key(name: &str, key: &str) -> SecretVolumeSource {
    SecretVolumeSource { items: Some(vec![item(key, key)]), ..secret(name) }
}

fn mounted(name: &str, folder: &str, read_only: bool, fill: impl FnOnce(&mut Volume)) -> (Volume, VolumeMount) {
    let mut volume = Volume { name: name.into(), ..Volume::default() };
    fill(&mut volume);
    let read_only = read_only.then_some(true);
    let mount = VolumeMount { name: name.into(), mount_path: folder.into(), read_only, ..VolumeMount::default() };
    (volume, mount)
}

fn secret(name: &str) -> SecretVolumeSource {
    let default_mode = Some(SECRET_MODE);
    SecretVolumeSource { secret_name: Some(name.into()), default_mode, ..SecretVolumeSource::default() }
}

/// The keys of a binding that are used, and the certificate authority under the name that a node looks for.
fn projected(mount: &Mount) -> ProjectedVolumeSource {
    let source = |name: &str, items: Vec<KeyToPath>| VolumeProjection {
        secret: Some(SecretProjection {
            name: name.into(),
            items: Some(items).filter(|items| !items.is_empty()),
            ..SecretProjection::default()
        }),
        ..VolumeProjection::default()
    };
    let credentials = source(&mount.secret, mount.keys.iter().map(|key| item(key, key)).collect());
    let authority = mount.ca.as_ref().map(|(name, key)| source(name, vec![item(key, CA_KEY)]));
    let sources = [Some(credentials), authority].into_iter().flatten().collect();
    ProjectedVolumeSource { default_mode: Some(SECRET_MODE), sources: Some(sources) }
}

fn item(key: &str, path: &str) -> KeyToPath {
    KeyToPath { key: key.into(), path: path.into(), mode: None }
}
