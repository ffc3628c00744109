//! What happens in a schedule apart from faults: what users want of their clusters, and what befalls these.

use serde_json::{Value, json};

use crate::world::{BROKEN, UNPROVEN, WORSE};

/// Namespace of everything.
pub const NAMESPACE: &str = "chat";

/// The cluster that most scenarios are about.
pub const DEMO: &str = "demo";

/// Until clients of a spec that fails are led back.
const BACK: Step = Step::Pass(21);

/// How long a deletion that is held up may take, whatever befalls the operator.
const FAULTS_SECONDS: u64 = 600;

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A user wants exactly this of a cluster.
    Want(&'static str, Value),
    /// Somebody makes an object, or puts a merge patch over it.
    Put(&'static str, &'static str, Value),
    /// Somebody deletes an object, if it is there.
    Delete(&'static str, &'static str),
    /// Somebody deletes an object and leaves behind what it owns.
    Orphan(&'static str, &'static str),
    /// Somebody deletes an object, and waits for what it owns.
    Foreground(&'static str, &'static str),
    /// An object goes within so many seconds.
    Gone(&'static str, &'static str, u64),
    /// The newest pod of a cluster is lost with its machine.
    LosePod(&'static str),
    /// The second oldest pod of a cluster is lost while enough others serve, which is no reason for fewer.
    LoseSecond(&'static str),
    /// From now on nobody looks after StatefulSets for so many seconds.
    Away(u64),
    /// Seconds go by.
    Pass(u64),
    /// Somebody orders something of a rollout.
    Order(&'static str, &'static str),
    /// The operator's process ends, and another begins.
    Restart,
    /// Every cluster comes to what was declared within so many seconds.
    Within(u64),
    /// Every cluster comes to what was declared, and then stays.
    Settle,
    /// What is declared of a cluster fails: it comes back to what it was at the last rest, and then stays.
    Return(&'static str),
    /// A cluster tells that it waits for its bindings.
    Waits(&'static str),
    /// A cluster comes to so many nodes of an image, and no others.
    Runs(&'static str, &'static str, usize),
}

/// A sequence of steps. It always ends at rest.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name in a replay.
    pub name: String,
    /// Its steps.
    pub steps: Vec<Step>,
}

/// A bound cluster of so many nodes.
pub fn bound(replicas: i32, image: &str) -> Value {
    json!({
        "replicas": replicas, "image": image,
        "postgres": {"secret": {"name": "pg"}}, "rabbitmq": {"secret": {"name": "mq"}},
        "auth": {"tokenSecret": {"name": "token"}},
    })
}

/// A spec with something else in it.
pub fn with(mut spec: Value, more: Value) -> Value {
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    spec
}

/// Secrets that clusters are bound to, and objects that are none of the operator's business.
pub fn before() -> Vec<Step> {
    let uri = |uri: &str| json!({"type": "Opaque", "data": {"uri": uri}});
    let strange = json!({"app.kubernetes.io/instance": DEMO, "app.kubernetes.io/managed-by": "Helm"});
    let key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let keys = json!({"type": "Opaque", "data": {"key": key, "other": key}});
    let template =
        json!({"metadata": {"labels": {"app": "other"}}, "spec": {"containers": [{"name": "a", "image": "other:1"}]}});
    let set = json!({
        "metadata": {"labels": strange},
        "spec": {"replicas": 1, "serviceName": "other", "selector": {"matchLabels": {"app": "other"}}, "template": template},
    });
    vec![
        Step::Put("secrets", "pg", uri("cG9zdGdyZXM6Ly91OnBAcGcvZA==")),
        Step::Put("secrets", "mq", uri("YW1xcDovL3U6cEBtcS8lMkY=")),
        Step::Put("secrets", "rd", uri("cmVkaXM6Ly9yZC8w")),
        Step::Put("secrets", "rd-2", uri("cmVkaXM6Ly9yZC8x")),
        Step::Put("secrets", "token", keys.clone()),
        Step::Put("secrets", "token-2", keys),
        Step::Put("configmaps", "other", json!({"data": {"a": "b"}})),
        Step::Put(
            "services",
            "other",
            json!({"metadata": {"labels": strange}, "spec": {"selector": {"app": "other"}, "ports": [{"port": 1}]}}),
        ),
        Step::Put("statefulsets", "other", set),
    ]
}

fn scenario(name: &str, steps: Vec<Step>) -> Scenario {
    Scenario { name: name.into(), steps: steps.into_iter().chain([Step::Settle]).collect() }
}

/// A config that is changed, and changed back before that has come to rest.
pub fn config_and_back() -> Scenario {
    let before = bound(1, "chat-node:1");
    let after = with(before.clone(), json!({"limits": {"queueFramesMax": 99}}));
    let want = |spec: &Value| Step::Want(DEMO, spec.clone());
    scenario("config-and-back", vec![want(&before), Step::Settle, want(&after), Step::Pass(3), want(&before)])
}

/// An old node is lost while the new ones are judged, and not made again before the one below it would leave. Whoever is told late of it
/// cannot know, so this is for runs without a fault.
pub fn lost_while_judged() -> Scenario {
    let steps = vec![
        returning(2, "chat-node:1"),
        Step::Settle,
        returning(2, "chat-node:2"),
        Step::Pass(10),
        Step::LoseSecond(DEMO),
        Step::Away(20),
    ];
    scenario("lost-while-judged", steps)
}

/// A cluster that is made, and changed, each in half a minute. Whatever is never answered may hold it up for another; what is never told, for
/// longer.
pub fn in_time() -> Scenario {
    let want = |image| Step::Want(DEMO, bound(1, image));
    scenario(
        "in-time",
        vec![want("chat-node:1"), Step::Within(90), Step::Settle, want("chat-node:2"), Step::Within(90)],
    )
}

/// Two clusters that are changed while the operator begins.
pub fn restarted() -> Scenario {
    let want = |image| [Step::Want(DEMO, bound(1, image)), Step::Want("demo-2", bound(1, image))];
    let between = [Step::Settle, Step::Restart];
    scenario("restarted", want("chat-node:1").into_iter().chain(between).chain(want("chat-node:2")).collect())
}

/// A spec that is changed while clients are led to the one before.
pub fn third_template() -> Scenario {
    let want = |image| Step::Want(DEMO, bound(2, image));
    let steps = vec![want("chat-node:1"), Step::Settle, want("chat-node:2"), Step::Pass(4), want("chat-node:3")];
    scenario("third-template", steps)
}

/// A spec whose nodes fail before a client is led to them, which is soon.
pub fn never_proven() -> Scenario {
    failing("never-proven", UNPROVEN)
}

/// A cluster that goes back by itself from a spec that fails.
fn returning(replicas: i32, image: &str) -> Step {
    returning_after(60, replicas, image)
}

/// Likewise, also from one that has not come forward for so many seconds.
fn returning_after(deadline: u32, replicas: i32, image: &str) -> Step {
    let strategy = json!({"onFailure": "Rollback", "progressDeadlineSeconds": deadline, "soakSeconds": 5});
    Step::Want(DEMO, with(bound(replicas, image), json!({"updateStrategy": strategy})))
}

/// A spec that is not rolled out yet.
fn paused(spec: Value) -> Value {
    with(spec, json!({"updateStrategy": {"paused": true}}))
}

/// A cluster that nobody is to look after.
fn unattended(step: Step) -> Step {
    match step {
        Step::Want(name, spec) => Step::Want(name, with(spec, json!({"paused": true}))),
        step => step,
    }
}

/// A spec that fails by itself, and the next one, which does not.
fn failing(name: &str, image: &str) -> Scenario {
    returning_while(name, image, [])
}

/// The same, and what happens meanwhile.
fn returning_while<const N: usize>(name: &str, image: &str, meanwhile: [Step; N]) -> Scenario {
    let before = [returning(2, "chat-node:1"), Step::Settle, returning(2, image)];
    let after = [Step::Return(DEMO), returning(2, "chat-node:2")];
    scenario(name, before.into_iter().chain(meanwhile).chain(after).collect())
}

/// Scenarios of which each promises more than holds through every fault.
pub fn unmarred() -> [Scenario; 2] {
    [lost_while_judged(), in_time()]
}

/// Every scenario by hand that any fault may befall. Those of the schema's fields come in addition.
pub fn all() -> Vec<Scenario> {
    let want = |spec| Step::Want(DEMO, spec);
    let surge = |spec, surge: i32, unavailable: i32| {
        with(spec, json!({"updateStrategy": {"maxSurge": surge, "maxUnavailable": unavailable}}))
    };
    let (one, two) = ("chat-node:1", "chat-node:2");
    // An answer that never comes takes 45 seconds of a deadline, and an absence a minute.
    let patient = |image| returning_after(180, 2, image);
    vec![
        scenario("create", vec![want(bound(2, one))]),
        scenario("rollout", vec![want(bound(2, one)), Step::Settle, want(bound(2, two))]),
        scenario("wide-surge", vec![want(surge(bound(3, one), 3, 0)), Step::Settle, want(surge(bound(3, two), 3, 0))]),
        scenario(
            "without-surge",
            vec![want(surge(bound(3, one), 0, 1)), Step::Settle, want(surge(bound(3, two), 0, 1))],
        ),
        third_template(),
        config_and_back(),
        scenario(
            "scale",
            vec![want(bound(2, one)), Step::Settle, want(bound(4, one)), Step::Settle, want(bound(1, one))],
        ),
        scenario(
            "scale-midway",
            vec![want(bound(3, one)), Step::Settle, want(bound(3, two)), Step::Pass(6), want(bound(2, two))],
        ),
        scenario(
            "broken-image",
            vec![want(bound(2, one)), Step::Settle, want(bound(2, BROKEN)), Step::Pass(40), want(bound(2, two))],
        ),
        scenario(
            "pod-lost-midway",
            vec![want(bound(2, one)), Step::Settle, want(bound(2, two)), Step::Pass(4), Step::LosePod(DEMO)],
        ),
        scenario(
            "embedded",
            vec![
                want(json!({"image": one})),
                Step::Settle,
                want(json!({"image": two, "limits": {"queueFramesMax": 99}})),
            ],
        ),
        scenario(
            "secrets",
            vec![
                Step::Delete("secrets", "mq"),
                want(bound(2, one)),
                Step::Waits(DEMO),
                Step::Put("secrets", "mq", json!({"type": "Opaque", "data": {"uri": "YW1xcDovL3U6cEBtcS8lMkY="}})),
                Step::Settle,
                Step::Put("secrets", "pg", json!({"data": {"uri": "cG9zdGdyZXM6Ly91OnBAcGcyL2Q="}})),
            ],
        ),
        scenario(
            "drift",
            vec![
                want(bound(2, one)),
                Step::Settle,
                Step::Put("services", DEMO, json!({"spec": {"selector": {"app.kubernetes.io/name": "nobody"}}})),
                Step::Delete("poddisruptionbudgets", DEMO),
                Step::Delete("services", "demo-nodes"),
                Step::Settle,
                Step::Put("statefulsets", DEMO, json!({"spec": {"replicas": 5}})),
                Step::Put(
                    "serviceaccounts",
                    DEMO,
                    json!({"metadata": {"labels": {"app.kubernetes.io/part-of": "another"}}}),
                ),
            ],
        ),
        scenario(
            "name-taken",
            vec![
                // It is nobody's child and has no label, so that no watch tells of it.
                Step::Put("serviceaccounts", DEMO, json!({"metadata": {"annotations": {"example.org/of": "another"}}})),
                Step::Put(
                    "services",
                    "demo-nodes",
                    json!({"spec": {"selector": {"app": "other"}, "ports": [{"port": 1}]}}),
                ),
                want(bound(1, one)),
                Step::Pass(10),
                Step::Delete("services", "demo-nodes"),
                Step::Pass(10),
                Step::Delete("serviceaccounts", DEMO),
            ],
        ),
        scenario(
            "controllers-away",
            vec![want(bound(2, one)), Step::Settle, Step::Away(20), want(bound(2, two)), Step::Pass(30)],
        ),
        failing("never-ready", BROKEN),
        never_proven(),
        failing("worse-than-before", WORSE),
        returning_while("scaled-on-the-way-back", WORSE, [BACK, returning(4, WORSE)]),
        returning_while("pod-lost-on-the-way-back", WORSE, [BACK, Step::LosePod(DEMO)]),
        scenario(
            "mended-on-the-way-back",
            vec![returning(2, one), Step::Settle, returning(2, WORSE), BACK, returning(2, two)],
        ),
        scenario(
            "promoted",
            vec![want(bound(2, one)), Step::Settle, want(bound(2, UNPROVEN)), BACK, Step::Order(DEMO, "promote")],
        ),
        scenario(
            "aborted",
            vec![
                want(bound(2, one)),
                Step::Settle,
                want(bound(2, WORSE)),
                Step::Pass(40),
                Step::Order(DEMO, "abort"),
                Step::Return(DEMO),
                want(bound(2, two)),
            ],
        ),
        scenario(
            "aborted-before-it-can-be-had",
            vec![
                want(bound(2, one)),
                Step::Settle,
                want(with(bound(2, two), json!({"rabbitmq": {"secret": {"name": "late"}}}))),
                Step::Pass(5),
                Step::Order(DEMO, "abort"),
                Step::Pass(5),
                Step::Put("secrets", "late", json!({"type": "Opaque", "data": {"uri": "YW1xcDovL3U6cEBtcS8lMkY="}})),
                Step::Return(DEMO),
                want(bound(2, "chat-node:3")),
            ],
        ),
        scenario("set-lost", vec![want(bound(2, one)), Step::Settle, Step::Orphan("statefulsets", DEMO)]),
        scenario(
            "two-clusters",
            vec![
                want(bound(2, one)),
                Step::Want("demo-2", bound(1, one)),
                Step::Settle,
                Step::Delete("chatclusters", "demo-2"),
                want(bound(2, two)),
            ],
        ),
        restarted(),
        scenario(
            "held-up",
            vec![
                want(bound(2, one)),
                Step::Settle,
                Step::Put("statefulsets", DEMO, json!({"metadata": {"finalizers": ["example.org/hold"]}})),
                Step::Foreground("chatclusters", DEMO),
                Step::Gone("chatclusters", DEMO, FAULTS_SECONDS),
                Step::Put("statefulsets", DEMO, json!({"metadata": {"finalizers": null}})),
                Step::Gone("statefulsets", DEMO, FAULTS_SECONDS),
                want(bound(1, two)),
            ],
        ),
        scenario(
            "born-again",
            vec![
                want(bound(1, one)),
                Step::Settle,
                Step::Delete("chatclusters", DEMO),
                Step::Pass(1),
                want(bound(1, two)),
            ],
        ),
        scenario(
            "waits-for-a-binding",
            vec![
                want(bound(2, one)),
                Step::Settle,
                want(with(bound(2, two), json!({"rabbitmq": {"secret": {"name": "late"}}}))),
                Step::Waits(DEMO),
                Step::Put("secrets", "late", json!({"type": "Opaque", "data": {"uri": "YW1xcDovL3U6cEBtcS8lMkY="}})),
            ],
        ),
        scenario(
            "asleep-in-a-pause",
            vec![
                want(bound(2, one)),
                Step::Settle,
                want(paused(bound(2, two))),
                Step::Pass(5),
                want(paused(bound(0, two))),
                Step::Runs(DEMO, one, 0),
                want(paused(bound(2, two))),
                Step::Runs(DEMO, one, 2),
                want(bound(2, two)),
            ],
        ),
        scenario(
            "unattended-for-longer-than-the-deadline",
            vec![
                patient(one),
                Step::Settle,
                patient(two),
                Step::Pass(7),
                unattended(patient(two)),
                Step::Pass(600),
                // What would bring it forward is away at the first look.
                Step::LosePod(DEMO),
                patient(two),
            ],
        ),
    ]
}
