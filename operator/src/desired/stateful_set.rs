//! The pods.

use std::collections::BTreeMap;

use crds::chatcluster::{Pod, Window};
use k8s_openapi::{
    api::{
        apps::v1::{
            RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetOrdinals, StatefulSetSpec,
            StatefulSetUpdateStrategy,
        },
        core::v1::{
            Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource,
            HTTPGetAction, KeyToPath, ObjectFieldSelector, PersistentVolumeClaim, PersistentVolumeClaimSpec,
            PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile,
            SecretVolumeSource, SecurityContext, TopologySpreadConstraint, Volume, VolumeMount,
            VolumeResourceRequirements,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
        util::intstr::IntOrString,
    },
};

use super::{
    config_map::{ADMIN_PORT, CLIENT_PORT, DATA_FOLDER, POSTGRES_FOLDER, RABBITMQ_FOLDER, TOKEN_FOLDER, config},
    metadata,
};
use crate::{
    names,
    validate::{Backing, Cluster},
};

/// Shape of the pod template. An operator that makes pods in another way gives it another number, and keeps making the old ones
/// until the user changes the spec, so that upgrading the operator restarts no pod.
pub const POD_TEMPLATE_VERSION: i32 = 1;

/// Nobody in particular; the image has no users.
const USER: i64 = 65532;

const CONFIG_FOLDER: &str = "/etc/chatcluster";

/// Seconds beyond the drain that a pod may take to end.
const GRACE_MARGIN_SECONDS: i64 = 5;

/// The StatefulSet at rest.
pub(super) fn build(cluster: &Cluster, owner: &OwnerReference, config_name: &str, secrets_hash: &str) -> StatefulSet {
    let claims = match (&cluster.backing, &cluster.spec.storage) {
        (Backing::Embedded, Some(_)) => Some(vec![claim(cluster)]),
        _ => None,
    };
    let in_place = cluster.backing == Backing::Embedded;
    let set = StatefulSet {
        metadata: metadata(cluster, owner, cluster.name.clone()),
        spec: Some(StatefulSetSpec {
            service_name: Some(names::headless(&cluster.name)),
            pod_management_policy: Some("Parallel".into()),
            selector: LabelSelector { match_labels: Some(names::selector(&cluster.name)), ..LabelSelector::default() },
            template: template(cluster, config_name, secrets_hash),
            volume_claim_templates: claims,
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    };
    let replicas = cluster.policy.replicas;
    at(set, Window { start: 0, replicas, partition: if in_place { 0 } else { replicas } })
}

/// The StatefulSet at a window of a rollout: ordinals, replicas and partition change together with the template.
pub(super) fn at(mut set: StatefulSet, window: Window) -> StatefulSet {
    if let Some(spec) = &mut set.spec {
        spec.replicas = Some(window.replicas);
        spec.ordinals = Some(StatefulSetOrdinals { start: Some(window.start) });
        spec.update_strategy = Some(StatefulSetUpdateStrategy {
            type_: Some("RollingUpdate".into()),
            rolling_update: Some(RollingUpdateStatefulSetStrategy {
                partition: Some(window.partition),
                ..RollingUpdateStatefulSetStrategy::default()
            }),
        });
    }
    set
}

fn template(cluster: &Cluster, config_name: &str, secrets_hash: &str) -> PodTemplateSpec {
    let wanted = cluster.spec.pod.clone().unwrap_or_default();
    let mut labels = wanted.labels.clone();
    labels.extend(names::labels(&cluster.name));
    let mut annotations = wanted.annotations.clone();
    annotations.insert(names::SECRETS.into(), secrets_hash.into());
    PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels), annotations: Some(annotations), ..ObjectMeta::default() }),
        spec: Some(pod(cluster, wanted, config_name)),
    }
}

fn pod(cluster: &Cluster, wanted: Pod, config_name: &str) -> PodSpec {
    let drain = config(cluster).drain;
    let drain = i64::try_from(drain.settle_seconds + drain.window_seconds + drain.flush_seconds).unwrap_or(i64::MAX);
    let (volumes, mounts): (Vec<_>, Vec<_>) = volumes(cluster, config_name).into_iter().unzip();
    let spread = if wanted.topology_spread_constraints.is_empty() {
        ["kubernetes.io/hostname", "topology.kubernetes.io/zone"].map(|key| spread(cluster, key)).into()
    } else {
        wanted.topology_spread_constraints.clone()
    };
    let some = |list: Vec<_>| Some(list).filter(|list| !list.is_empty());
    PodSpec {
        service_account_name: Some(cluster.name.clone()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        // Settle, drain and flush, and a margin for the kubelet.
        termination_grace_period_seconds: Some(drain.saturating_add(GRACE_MARGIN_SECONDS)),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), ..SeccompProfile::default() }),
            ..PodSecurityContext::default()
        }),
        topology_spread_constraints: Some(spread),
        image_pull_secrets: some(wanted.image_pull_secrets.clone()),
        node_selector: Some(wanted.node_selector.clone()).filter(|selector| !selector.is_empty()),
        tolerations: Some(wanted.tolerations.clone()).filter(|tolerations| !tolerations.is_empty()),
        affinity: wanted.affinity.clone(),
        priority_class_name: wanted.priority_class_name.clone(),
        volumes: Some(volumes),
        containers: vec![container(cluster, wanted, mounts)],
        ..PodSpec::default()
    }
}

fn container(cluster: &Cluster, wanted: Pod, mounts: Vec<VolumeMount>) -> Container {
    let port = |name: &str, port: u16| ContainerPort {
        name: Some(name.into()),
        container_port: port.into(),
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    };
    let mut env = vec![
        from_pod("POD_NAME", "metadata.name"),
        from_pod("POD_REVISION", "metadata.labels['controller-revision-hash']"),
    ];
    // What the operator sets cannot be set otherwise.
    env.extend(wanted.env.into_iter().filter(|env| env.name != "POD_NAME" && env.name != "POD_REVISION"));
    Container {
        name: "chat-node".into(),
        image: Some(cluster.image.clone()),
        image_pull_policy: Some(wanted.image_pull_policy.unwrap_or_else(|| "IfNotPresent".into())),
        args: Some(vec!["--config".into(), format!("{CONFIG_FOLDER}/{}", names::CONFIG_FILE)]),
        env: Some(env),
        ports: Some(vec![port("client", CLIENT_PORT), port("admin", ADMIN_PORT)]),
        resources: Some(wanted.resources.unwrap_or_else(default_resources)),
        startup_probe: Some(probe("/livez", 1, 60)),
        liveness_probe: Some(probe("/livez", 10, 3)),
        readiness_probe: Some(probe("/readyz", 2, 1)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), ..Capabilities::default() }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn default_resources() -> ResourceRequirements {
    let list = |pairs: &[(&str, &str)]| {
        Some(pairs.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned()))).collect())
    };
    ResourceRequirements {
        requests: list(&[("cpu", "100m"), ("memory", "64Mi")]),
        limits: list(&[("memory", "512Mi")]),
        ..ResourceRequirements::default()
    }
}

fn probe(path: &str, period_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String("admin".into()),
            scheme: Some("HTTP".into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn from_pod(name: &str, path: &str) -> EnvVar {
    let field = ObjectFieldSelector { api_version: Some("v1".into()), field_path: path.into() };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    EnvVar { name: name.into(), value_from: Some(source), ..EnvVar::default() }
}

fn spread(cluster: &Cluster, key: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(LabelSelector {
            match_labels: Some(names::selector(&cluster.name)),
            ..LabelSelector::default()
        }),
        // Each revision spreads by itself, or the new nodes of a rollout would flee from the old ones.
        match_label_keys: Some(vec![names::REVISION.into()]),
        ..TopologySpreadConstraint::default()
    }
}

/// Volumes and where they are mounted. Secrets are mounted, never copied.
fn volumes(cluster: &Cluster, config_name: &str) -> Vec<(Volume, VolumeMount)> {
    let mut volumes = vec![
        mounted("config", CONFIG_FOLDER, true, |volume| {
            volume.config_map = Some(ConfigMapVolumeSource {
                name: config_name.into(),
                default_mode: Some(0o444),
                ..ConfigMapVolumeSource::default()
            });
        }),
        mounted("auth", TOKEN_FOLDER, true, |volume| {
            let (name, key) = cluster.token.clone();
            let item = KeyToPath { path: key.clone(), key, mode: None };
            volume.secret = Some(SecretVolumeSource { items: Some(vec![item]), ..secret(&name) });
        }),
    ];
    match &cluster.backing {
        Backing::Bound { postgres, rabbitmq } => {
            for (name, folder, source) in
                [("postgres", POSTGRES_FOLDER, postgres), ("rabbitmq", RABBITMQ_FOLDER, rabbitmq)]
            {
                volumes.push(mounted(name, folder, true, |volume| volume.secret = Some(secret(source))));
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

fn mounted(name: &str, folder: &str, read_only: bool, fill: impl FnOnce(&mut Volume)) -> (Volume, VolumeMount) {
    let mut volume = Volume { name: name.into(), ..Volume::default() };
    fill(&mut volume);
    let read_only = read_only.then_some(true);
    let mount = VolumeMount { name: name.into(), mount_path: folder.into(), read_only, ..VolumeMount::default() };
    (volume, mount)
}

fn secret(name: &str) -> SecretVolumeSource {
    SecretVolumeSource { secret_name: Some(name.into()), default_mode: Some(0o440), ..SecretVolumeSource::default() }
}

fn claim(cluster: &Cluster) -> PersistentVolumeClaim {
    let storage = cluster.spec.storage.clone().unwrap_or_default();
    PersistentVolumeClaim {
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
    }
}
