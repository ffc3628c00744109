//! A change that is made while rollouts are paused: it waits beside the StatefulSet, which keeps the template that it has.
//!
//! Owns the promise that whoever is born meanwhile is of the spec that ran. The StatefulSet controller takes a template as the current one
//! as soon as all pods have it, and of a cluster that is asleep no pod lacks it: with a template that is written and waits, it would wake
//! to nodes that nobody has judged. A rollout that has nodes already is not this file's business: it stands where it is (`slide::stay`).

use crds::chatcluster::{RolloutPhase, Window};

use super::{
    Scene, SetView, Step, Template,
    rules::{Rule, holds},
    slide,
    standing::Standing,
};

/// What is done while the change waits; `None` when rollouts go on, nothing was changed, or nodes of another template are there.
pub(super) fn hold(scene: &Scene, standing: &Standing) -> Option<Step> {
    let set = scene.set.as_ref()?;
    if !scene.policy.paused || standing.goes_back || !holds(Rule::PausedKeeps) {
        return None;
    }
    let step = |window, serving| Step::new(window, serving, RolloutPhase::Paused, slide::waits_for(standing));
    if !set.fresh {
        // What its pods are born with is known in a moment.
        let waiting = Step { template: Template::Live, ..step(set.window, scene.serving.clone()) };
        return (!set.template_current).then_some(waiting);
    }
    let template = kept(scene, set)?;
    let replicas = scene.policy.replicas;
    Some(Step { template, ..step(Window { replicas, partition: replicas, ..set.window }, None) })
}

/// The template under which every node of the present one stays, when there is no other node.
fn kept(scene: &Scene, set: &SetView) -> Option<Template> {
    let home = &set.current_revision;
    if scene.positions(set.window).into_iter().flatten().any(|pod| pod.revision != *home) {
        return None;
    }
    if *home == set.update_revision {
        return (!set.template_current).then_some(Template::Live);
    }
    // It was written before the pause, and would be taken as the current one in the sleep that begins now.
    let falls_asleep = scene.policy.replicas == 0 && set.window.replicas > 0;
    (falls_asleep && scene.revisions.contains_key(home)).then(|| Template::Revision(home.clone()))
}
