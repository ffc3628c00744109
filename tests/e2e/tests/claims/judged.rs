//! Rollouts that fail, and what they cost people.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chat_load::checker::Report;
use crds::chatcluster::{RolloutPhase, RolloutStatus};
use e2e::{
    people::Party,
    pods::{PodWatch, fewest_serving},
    stage::{BOUND, NAMESPACE, Stage, kubectl},
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

const CLIENTS: usize = 12;
const NODES: usize = 3;

/// The pause between messages of one speaker.
const PAUSE: Duration = Duration::from_millis(200);

/// A spec whose nodes cannot be used is found out by the nodes themselves.
pub(crate) async fn sick(stage: &Stage) -> Result<String> {
    // No message fits, so each new node fails its self-test when it sends.
    let bad = json!({"limits": {"textBytesMax": 1}});
    let (report, told) = fails(stage, &bad, &json!({"limits": null}), "self-test at send: text_too_long").await?;
    Ok(format!("{report}; {}", told.failure))
}

/// An image that cannot be pulled never becomes ready, and does not stand in the way back.
pub(crate) async fn bad_image(stage: &Stage) -> Result<String> {
    let bad = json!({"image": "chat-node:there-is-no-such-tag"});
    let (report, told) = fails(stage, &bad, &json!({"image": null}), "nothing came forward for 5 s").await?;
    Ok(format!("{report}; {}", told.failure))
}

/// A rollout that is aborted in the middle slides back.
pub(crate) async fn abort(stage: &Stage) -> Result<String> {
    begin(stage).await?;
    let party = Party::gather(&vec![stage.service(BOUND); CLIENTS]).await?;
    let before = revisions(&stage.pods(BOUND).await?);
    let watch = PodWatch::begin(&stage.client, NAMESPACE, BOUND);
    let start = rollout(stage).await?.window.unwrap_or_default().start;
    party
        .chatter(3, PAUSE, async {
            patch(&json!({"logging": {"filter": "info,chat_node::drain=debug"}}))?;
            stage
                .until("an old node to leave", || async {
                    let window = rollout(stage).await?.window.unwrap_or_default();
                    Ok((window.start > start).then_some(()))
                })
                .await?;
            annotate(Some("abort"))?;
            back(stage, "aborted").await.map(drop)
        })
        .await?;
    let after = revisions(&stage.pods(BOUND).await?);
    ensure!(after == before, "the nodes are of {after:?}, not of {before:?}");
    let report = party.judge().await?;
    ensure!(report.is_clean() && report.moves.1 <= 2, "{report}");
    let fewest = fewest_serving(&watch.sights().await, NODES).context("the nodes never served")?;
    ensure!(fewest >= NODES, "only {fewest} nodes were ready at some moment");
    party.end().await;
    annotate(None)?;
    end(stage, &json!({"logging": null})).await?;
    Ok(format!("{report}; never fewer than {fewest} ready nodes"))
}

/// Rolls out a spec that fails, with `reason`, and then the one of before again.
async fn fails(stage: &Stage, bad: &Value, good: &Value, reason: &str) -> Result<(Report, RolloutStatus)> {
    begin(stage).await?;
    let party = Party::gather(&vec![stage.service(BOUND); CLIENTS]).await?;
    let before: Vec<Option<String>> = stage.pods(BOUND).await?.iter().map(ResourceExt::uid).collect();
    let mut told = RolloutStatus::default();
    party
        .chatter(3, PAUSE, async {
            patch(bad)?;
            told = back(stage, reason).await?;
            Ok(())
        })
        .await?;
    let after: Vec<Option<String>> = stage.pods(BOUND).await?.iter().map(ResourceExt::uid).collect();
    ensure!(after == before, "other pods are there than before");
    let report = party.judge().await?;
    ensure!(report.is_clean() && report.moves == (0, 0), "{report}");
    party.end().await;
    let (status, reason, _) = stage.condition(BOUND, "Progressing").await?.context("there is no Progressing")?;
    ensure!((&*status, &*reason) == ("False", "RolledBack"), "Progressing is {status} {reason}");
    let events = kubectl(&["-n", NAMESPACE, "get", "events", "--field-selector=reason=RolloutFailed"])?;
    ensure!(events.contains(BOUND), "no event tells of the failure: {events}");
    end(stage, good).await?;
    Ok((report, told))
}

async fn begin(stage: &Stage) -> Result<()> {
    stage.bound().await?;
    patch(&json!({"updateStrategy": {"onFailure": "Rollback", "progressDeadlineSeconds": 5}}))
}

/// The spec is as before, and tried.
async fn end(stage: &Stage, good: &Value) -> Result<()> {
    patch(good)?;
    patch(&json!({"updateStrategy": {"onFailure": "Pause", "progressDeadlineSeconds": 600}}))?;
    stage.at_rest(BOUND, NODES).await?;
    let told = rollout(stage).await?;
    ensure!(told.failure.is_empty(), "the spec of before is said to have failed: {}", told.failure);
    Ok(())
}

/// Waits until the rollout has failed for a reason, and the nodes of before are all that there is.
async fn back(stage: &Stage, reason: &str) -> Result<RolloutStatus> {
    stage
        .until(&format!("the way back from {reason:?}"), || async {
            let told = rollout(stage).await?;
            let is_back = told.phase == RolloutPhase::Stable && told.failure.contains(reason);
            Ok((is_back && stage.pods(BOUND).await?.len() == NODES).then_some(told))
        })
        .await
}

async fn rollout(stage: &Stage) -> Result<RolloutStatus> {
    Ok(stage.cluster(BOUND).await?.status.unwrap_or_default().rollout.unwrap_or_default())
}

fn patch(spec: &Value) -> Result<()> {
    let patch = json!({"spec": spec}).to_string();
    kubectl(&["-n", NAMESPACE, "patch", "chatcluster", BOUND, "--type=merge", "-p", &patch]).map(drop)
}

fn annotate(command: Option<&str>) -> Result<()> {
    let annotation =
        command.map_or("chatcluster.dev/rollout-".to_owned(), |it| format!("chatcluster.dev/rollout={it}"));
    kubectl(&["-n", NAMESPACE, "annotate", "--overwrite", "chatcluster", BOUND, &annotation]).map(drop)
}

fn revisions(pods: &[Pod]) -> std::collections::BTreeSet<String> {
    pods.iter().filter_map(|pod| pod.labels().get("controller-revision-hash").cloned()).collect()
}
