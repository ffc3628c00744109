//! What happens to people while pods change or die.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chat_load::checker::moves_in_words;
use e2e::{
    people::Party,
    pods::{PodWatch, fewest_serving, made_again},
    stage::{BOUND, DATABASE, NAMESPACE, Stage, apply, kubectl, secret},
};
use kube::ResourceExt;
use serde_json::{Value, json};

/// The pause between messages of one speaker: five a second is the floor of the brief.
const PAUSE: Duration = Duration::from_millis(200);

/// A change of the configuration replaces all nodes, and nobody moves twice.
pub(crate) async fn slides(stage: &Stage) -> Result<String> {
    stage.bound().await?;
    slide(stage, 3, 50, &json!({"logging": {"filter": "info,chat_node=debug"}})).await
}

/// The same with many people, whom surge nodes one by one or all at once take over.
pub(crate) async fn slides_with_many(stage: &Stage) -> Result<String> {
    const NODES: usize = 5;
    const CLIENTS: usize = 500;
    stage.bound().await?;
    kubectl(&["-n", NAMESPACE, "scale", "chatcluster", BOUND, "--replicas", &NODES.to_string()])?;
    stage.at_rest(BOUND, NODES).await?;
    let mut seen = Vec::new();
    for surge in ["25%", "100%"] {
        let change = json!({
            "logging": {"filter": format!("info,chat_node=info,surge_{}=info", surge.trim_end_matches('%'))},
            "updateStrategy": {"maxSurge": surge, "drainSeconds": 15},
        });
        seen.push(format!("maxSurge {surge}: {}", slide(stage, NODES, CLIENTS, &change).await?));
    }
    stage.bound().await?;
    Ok(seen.join("\n    "))
}

/// Changes the spec while people talk, and judges that each moved once and at no moment fewer than `nodes` nodes were ready.
async fn slide(stage: &Stage, nodes: usize, clients: usize, change: &Value) -> Result<String> {
    let party = Party::gather(&vec![stage.service(BOUND); clients]).await?;
    let watch = PodWatch::begin(&stage.client, NAMESPACE, BOUND);
    let before: Vec<String> = stage.pods(BOUND).await?.iter().map(ResourceExt::name_any).collect();
    let patch = json!({"spec": change}).to_string();
    party
        .chatter(3, PAUSE, async {
            kubectl(&["-n", NAMESPACE, "patch", "chatcluster", BOUND, "--type=merge", "-p", &patch])?;
            stage
                .until("all old pods to be gone", || async {
                    let pods = stage.pods(BOUND).await?;
                    Ok(pods.iter().all(|pod| !before.contains(&pod.name_any())).then_some(()))
                })
                .await?;
            stage.at_rest(BOUND, nodes).await
        })
        .await?;
    let report = party.judge().await?;
    ensure!(report.is_clean(), "{report}");
    let sights = watch.sights().await;
    ensure!(made_again(&sights).is_empty(), "restarted in place: {:?}", made_again(&sights));
    let words =
        || party.people.iter().map(|person| moves_in_words(&person.recorder.look())).collect::<Vec<_>>().join("\n");
    ensure!(report.moves == (1, 1), "{report}\n{}", words());
    let fewest = fewest_serving(&sights, nodes).context("the nodes never served")?;
    ensure!(fewest >= nodes, "only {fewest} nodes were ready at some moment");
    let spread = party.spread(nodes);
    party.end().await;
    Ok(format!("{report}; never fewer than {fewest} ready nodes; clients per node min/max {}/{}", spread.0, spread.1))
}

/// A pod that dies without a word takes nothing that was committed with it.
pub(crate) async fn killed_pod(stage: &Stage) -> Result<String> {
    stage.bound().await?;
    let party = Party::gather(&vec![stage.service(BOUND); 12]).await?;
    // Of three nodes any may have nobody, as chance has it.
    let victim = party.fullest().context("nobody is there")?;
    party
        .chatter(12, PAUSE, async {
            stage.kill_node(&victim).await?;
            stage.at_rest(BOUND, 3).await
        })
        .await?;
    let report = party.judge().await?;
    ensure!(report.is_clean() && report.moves.1 >= 1, "{report}");
    party.end().await;
    Ok(report.to_string())
}

/// Other credentials in the Secret reach the pods by a rollout.
pub(crate) async fn rotated_secret(stage: &Stage) -> Result<String> {
    stage.bound().await?;
    let revision = |stage: &Stage| {
        let client = stage.client.clone();
        async move {
            let api: kube::Api<k8s_openapi::api::apps::v1::StatefulSet> = kube::Api::namespaced(client, NAMESPACE);
            Ok::<_, anyhow::Error>(api.get(BOUND).await?.status.and_then(|status| status.update_revision))
        }
    };
    let before = revision(stage).await?;
    let role = format!("rotated_{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    stage.services.postgres.sql(DATABASE, &format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'another'"))?;
    apply(&secret("postgres", &[("uri", &stage.postgres_url(&role, "another"))]))?;
    stage.until("another revision", || async { Ok((revision(stage).await? != before).then_some(())) }).await?;
    stage.at_rest(BOUND, 3).await?;
    let users = stage.services.postgres.sql(
        DATABASE,
        "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name = 'chat-node' AND datname = current_database()",
    )?;
    ensure!(users.trim() == role, "the nodes are connected as {users:?}");
    let party = Party::gather(&stage.each_pod(BOUND).await?).await?;
    party.converse().await?;
    party.end().await;
    Ok("every node is connected with the new credentials".into())
}
