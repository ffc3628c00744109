//! Which shape and which image the pods have.
//!
//! Owns the promise that a new operator restarts no pod: as long as nothing changed that pods must know of, they keep the shape and the
//! default image that they were made with; with the next change they take the newest. A function of the live StatefulSet alone, so a lost
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

/// What is made of the pods.
pub struct Choice {
    /// What the nodes read.
    pub config_map: ConfigMap,
    /// The StatefulSet at rest, with its template noted.
    pub stateful_set: StatefulSet,
    /// Image of the nodes.
    pub image: String,
    /// Shape of the template.
    pub shape: i32,
    /// The live StatefulSet has this template already.
    pub current: bool,
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
    let running = live.and_then(image).filter(|_| cluster.spec.image.is_none());
    let images = [Some(cluster.image.clone()), running].into_iter().flatten();
    // What runs stays, also where new pods are held at an older shape.
    let shapes = || (1..=newest).rev().chain(newest + 1..=POD_TEMPLATE_VERSION);
    let candidates = images.flat_map(|image| shapes().map(move |shape| (image.clone(), shape)));
    let mut first = None;
    for (image, shape) in candidates {
        let sources = bindings.sources(shape).or_else(|| live.and_then(Sources::of))?;
        let cluster = Cluster { image: image.clone(), ..cluster.clone() };
        let config_map = config_map::build(&cluster, owner);
        let set = stateful_set::build(&cluster, owner, &config_map.name_any(), &sources, shape);
        let stateful_set = template::note(set);
        let current = live.is_some_and(|live| template::has(live, &stateful_set));
        let update = first.as_ref().map(|first: &Choice| difference(first, &image, shape)).unwrap_or_default();
        let choice = Choice { config_map, stateful_set, image, shape, current, update };
        if current {
            return Some(choice);
        }
        first.get_or_insert(choice);
    }
    first
}

fn image(set: &StatefulSet) -> Option<String> {
    set.spec.as_ref()?.template.spec.as_ref()?.containers.first()?.image.clone()
}

fn difference(newest: &Choice, image: &str, shape: i32) -> String {
    let image = (newest.image != image).then(|| format!("image {} (now {image})", newest.image));
    let shape = (newest.shape != shape).then(|| format!("pod template {} (now {shape})", newest.shape));
    [image, shape].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
