//! The pods.

use crds::chatcluster::{OnDelete, Pod, Window};
use k8s_openapi::{
    api::{
        apps::v1::{
            RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetOrdinals,
            StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetUpdateStrategy,
        },
        core::v1::{
            Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, ObjectFieldSelector,
            PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecurityContext,
            TopologySpreadConstraint, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
        util::intstr::IntOrString,
    },
};

use super::{
    awaited,
    config_map::{ADMIN_PORT, CLIENT_PORT, config},
    volumes::{CONFIG_FOLDER, claim, volumes},
};
use crate::{
    bindings::Sources,
    names,
    validate::{Backing, Cluster},
};

/// Nobody in particular; the image has no users.
const USER: i64 = 65532;

/// Seconds beyond the drain that a pod may take to end.
const GRACE_MARGIN_SECONDS: i64 = 5;

/// The StatefulSet at rest, its template in the given shape.
pub(super) fn build(
    cluster: &Cluster,
    owner: &OwnerReference,
    config_name: &str,
    sources: &Sources,
    shape: i32,
) -> StatefulSet {
    let claim = claim(cluster);
    let goes_too = cluster.spec.storage.as_ref().is_some_and(|storage| storage.on_delete == OnDelete::Delete);
    let in_place = cluster.backing == Backing::Embedded;
    let set = StatefulSet {
        metadata: awaited(cluster, owner, cluster.name.clone()),
        spec: Some(StatefulSetSpec {
            service_name: Some(names::headless(&cluster.name)),
            pod_management_policy: Some("Parallel".into()),
            selector: LabelSelector { match_labels: Some(names::selector(&cluster.name)), ..LabelSelector::default() },
            template: template(cluster, config_name, sources, shape),
            // What is absent is retained.
            persistent_volume_claim_retention_policy: (claim.is_some() && goes_too).then(|| {
                StatefulSetPersistentVolumeClaimRetentionPolicy {
                    when_deleted: Some("Delete".into()),
                    when_scaled: Some("Retain".into()),
                }
            }),
            volume_claim_templates: claim.map(|claim| vec![claim]),
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

fn template(cluster: &Cluster, config_name: &str, sources: &Sources, shape: i32) -> PodTemplateSpec {
    let wanted = cluster.spec.pod.clone().unwrap_or_default();
    let mut labels = wanted.labels.clone();
    labels.extend(names::labels(&cluster.name));
    let mut annotations = wanted.annotations.clone();
    annotations.insert(names::SECRETS.into(), sources.hash.clone());
    PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels), annotations: Some(annotations), ..ObjectMeta::default() }),
        spec: Some(pod(cluster, wanted, volumes(cluster, config_name, sources, shape))),
    }
}

fn pod(cluster: &Cluster, wanted: Pod, volumes: Vec<(Volume, VolumeMount)>) -> PodSpec {
    let drain = config(cluster).drain;
    let drain = i64::try_from(drain.settle_seconds + drain.window_seconds + drain.flush_seconds).unwrap_or(i64::MAX);
    let (volumes, mounts): (Vec<_>, Vec<_>) = volumes.into_iter().unzip();
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
        name: names::CONTAINER.into(),
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
