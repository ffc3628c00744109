//! Which shape and which image the pods have.
//!
//! Owns the promise that a new operator restarts no pod: as long as nothing changed that pods must know of, they keep the shape and the
//! default image that they were made with; with the next change they take the newest. And that no pod is made of what is known to be
//! missing: while a binding or a key cannot be used, the pods' template stays as it is. A function of the live StatefulSet alone, so a lost
//! status costs nothing.

use k8s_openapi::{
    api::{apps::v1::StatefulSet, core::v1::ConfigMap},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::ResourceExt;

use super::{config_map, stateful_set};
use crate::{
    bindings::{Bindings, Sources},
    template,
    validate::Cluster,
};

/// Newest shape of the pod template. An operator that makes pods in another way gives it another number, and goes on making the older
/// ones: `desired/tests.rs` holds them to what they were.
///
/// | shape | since | what differs |
/// |---|---|---|
/// | 1 | 0.1 | a binding's whole Secret is mounted, and each of its keys counts |
/// | 2 | 0.2 | the keys that are used are mounted, with the certificate authority beside them, and only they count |
pub const POD_TEMPLATE_VERSION: i32 = 2;

/// The shape by which a spec is known. It is never another one, so that a new operator knows the specs of before.
const KNOWN_BY: i32 = 1;

/// The shape whose content of Secrets a spec is known by, together with where its certificate authorities are. Nor is this ever another one.
const CONTENT_KNOWN_BY: i32 = 2;

/// What is made of the pods.
pub struct Choice {
    /// What the nodes read. `None`: what they read already.
    pub config_map: Option<ConfigMap>,
    /// The StatefulSet at rest, with its template noted.
    pub stateful_set: StatefulSet,
    /// Image of the nodes.
    pub image: String,
    /// Hash of what the user has asked for: neither an operator's default image nor its shape counts. `None` while that cannot be had.
    pub spec_hash: Option<String>,
    /// The hash under which an operator knew it that counted every key of a Secret, and no certificate authority; when that is another one.
    pub former_hash: Option<String>,
    /// Shape of the template; `None` when it is that of before, whatever it was.
    pub shape: Option<i32>,
    /// The live StatefulSet has this template already.
    pub current: bool,
    /// What the user has changed waits: it cannot be had whole, and the template is that of before.
    pub waits: bool,
    /// What the newest shape and image would change; empty when these are the newest.
    pub update: String,
}

/// Chooses shape and image. `None` while a binding cannot be used and no StatefulSet tells what it was. `newest` is the shape that new
/// pods get, at most [`POD_TEMPLATE_VERSION`].
pub fn choose(
    cluster: &Cluster,
    owner: &OwnerReference,
    bindings: &Bindings,
    live: Option<&StatefulSet>,
    newest: i32,
) -> Option<Choice> {
    let running = live.and_then(template::image).filter(|_| cluster.spec.image.is_none());
    let images = [Some(cluster.image.clone()), running].into_iter().flatten();
    // What runs stays, also where new pods are held at an older shape.
    let shapes = || (1..=newest).rev().chain(newest + 1..=POD_TEMPLATE_VERSION);
    let candidates = images.flat_map(|image| shapes().map(move |shape| (image.clone(), shape)));
    let config_map = config_map::build(cluster, owner);
    let build = |image: &str, sources: &Sources, shape: i32| {
        let cluster = Cluster { image: image.to_owned(), ..cluster.clone() };
        template::note(stateful_set::build(&cluster, owner, &config_map.name_any(), sources, shape))
    };
    let hash = |sources: &Sources| {
        let image = cluster.spec.image.as_deref().unwrap_or_default();
        template::noted(&build(image, sources, KNOWN_BY))
    };
    let authorities: Vec<_> = bindings.authorities().collect();
    let with_authorities =
        |hash: String| if authorities.is_empty() { hash } else { template::hash(&(hash, &authorities)) };
    let known_by = bindings.sources(CONTENT_KNOWN_BY);
    let spec_hash = known_by.as_ref().map(hash).map(with_authorities);
    // Seldom another one, and so seldom worth a second template.
    let was_known_by =
        bindings.sources(KNOWN_BY).filter(|was| !authorities.is_empty() || known_by.as_ref() != Some(was));
    let former_hash = was_known_by.as_ref().map(hash);
    let mut first = None;
    for (image, shape) in candidates {
        let sources = bindings.sources(shape).or_else(|| live.and_then(Sources::of))?;
        let stateful_set = build(&image, &sources, shape);
        let current = live.is_some_and(|live| template::has(live, &stateful_set));
        let update = first.as_ref().map(|first: &Choice| difference(first, &image, shape)).unwrap_or_default();
        let (config_map, shape) = (Some(config_map.clone()), Some(shape));
        let (spec_hash, former_hash) = (spec_hash.clone(), former_hash.clone());
        let choice =
            Choice { config_map, stateful_set, image, spec_hash, former_hash, shape, current, waits: false, update };
        if current {
            return Some(choice);
        }
        first.get_or_insert(choice);
    }
    match live {
        Some(live) if spec_hash.is_none() => Some(held(first?, live)),
        _ => first,
    }
}

/// The template of before. What the user has changed waits until it can be had whole.
fn held(wanted: Choice, live: &StatefulSet) -> Choice {
    let pods = live.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    Choice {
        config_map: None,
        stateful_set: template::at_revision(wanted.stateful_set, &template::noted(live), pods),
        image: template::image(live).unwrap_or(wanted.image),
        shape: None,
        current: true,
        waits: true,
        ..wanted
    }
}

fn difference(newest: &Choice, image: &str, shape: i32) -> String {
    let image = (newest.image != image).then(|| format!("image {} (now {image})", newest.image));
    let newer = newest.shape.filter(|newest| *newest != shape);
    let shape = newer.map(|newest| format!("pod template {newest} (now {shape})"));
    [image, shape].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
