//! How clusters come to life, and how they grow and shrink.

use anyhow::{Context, Result, ensure};
use e2e::{
    people::Party,
    stage::{BOUND, DATABASE, NAMESPACE, Stage, apply, chat_cluster, kubectl, secret},
};
use serde_json::json;
use url::Url;

/// `spec: {}` is a working chat service.
pub(crate) async fn self_contained(stage: &Stage) -> Result<String> {
    apply(&chat_cluster("solo", json!({})))?;
    stage.at_rest("solo", 1).await?;
    let told = stage.condition("solo", "DurabilityReduced").await?;
    ensure!(
        told.is_some_and(|(status, reason, _)| (&*status, &*reason) == ("True", "EmptyDir")),
        "nothing warns of the emptyDir"
    );
    let service = stage.service("solo");
    let party = Party::gather(&[service.clone(), service]).await?;
    party.converse().await?;
    let report = party.judge().await?;
    ensure!(report.is_clean(), "{report}");
    party.end().await;
    kubectl(&["-n", NAMESPACE, "delete", "chatcluster", "solo"])?;
    Ok(report.to_string())
}

/// A self-contained node that is made again finds what it had committed.
pub(crate) async fn keeps_history(stage: &Stage) -> Result<String> {
    apply(&chat_cluster("kept", json!({"storage": {"size": "1Gi"}, "updateStrategy": {"drainSeconds": 1}})))?;
    stage.at_rest("kept", 1).await?;
    let service = stage.service("kept");
    let party = Party::gather(&[service.clone(), service]).await?;
    party.converse().await?;
    stage.kill_node("kept-0").await?;
    party.converse().await?;
    let report = party.judge().await?;
    ensure!(report.is_clean() && report.moves.0 >= 1, "{report}");
    party.end().await;
    kubectl(&["-n", NAMESPACE, "delete", "chatcluster", "kept"])?;
    kubectl(&["-n", NAMESPACE, "delete", "persistentvolumeclaim", "data-kept-0", "--wait=false"])?;
    Ok(report.to_string())
}

/// What is missing is named in a condition, nothing crashes, and its appearance is enough.
pub(crate) async fn missing_secret(stage: &Stage) -> Result<String> {
    let bindings = json!({"postgres": {"secret": {"name": "late-postgres"}}, "rabbitmq": {"secret": {"name": "late-rabbitmq"}},
        "updateStrategy": {"drainSeconds": 1}});
    apply(&chat_cluster("late", bindings))?;
    let told = |reason: &'static str, words: &'static str| {
        stage.until(reason, move || async move {
            let told = stage.condition("late", "PostgresBound").await?;
            Ok(told.filter(|(status, now, message)| status == "False" && now == reason && message.contains(words)))
        })
    };
    told("SecretNotFound", "\"late-postgres\"").await?;
    apply(&secret("late-postgres", &[("host", stage.host()), ("username", "postgres")]))?;
    told("KeyMissing", "\"password\"").await?;
    ensure!(stage.pods("late").await?.is_empty(), "pods were made that cannot start");
    let url = Url::parse(&stage.services.postgres.database("late", stage.host())?)?;
    let port = url.port().unwrap_or(5432).to_string();
    let parts = [
        ("host", stage.host()),
        ("port", &port),
        ("username", url.username()),
        ("password", url.password().unwrap_or_default()),
        ("database", "late"),
    ];
    apply(&secret("late-postgres", &parts))?;
    apply(&secret("late-rabbitmq", &[("uri", &stage.services.rabbitmq.vhost("late", stage.host())?)]))?;
    stage.at_rest("late", 1).await?;
    kubectl(&["-n", NAMESPACE, "delete", "chatcluster", "late"])?;
    Ok("the Secret and then its key were named, and their appearance was enough".into())
}

/// Two people on two pods, through Postgres and RabbitMQ.
pub(crate) async fn across_pods(stage: &Stage) -> Result<String> {
    stage.bound().await?;
    let party = Party::gather(&stage.each_pod(BOUND).await?).await?;
    party.converse().await?;
    let report = party.judge().await?;
    ensure!(report.is_clean(), "{report}");
    let nodes: std::collections::BTreeSet<String> = party
        .people
        .iter()
        .filter_map(|person| Some(person.recorder.look().connections.last()?.node.clone()))
        .collect();
    ensure!(nodes.len() == 3, "the people were on {nodes:?}");
    let rows = stage
        .services
        .postgres
        .sql(DATABASE, &format!("SELECT count(*) FROM events WHERE room = '{}' AND kind = 1", party.room))?;
    ensure!(rows.trim() == "2", "{} rows in Postgres", rows.trim());
    party.end().await;
    Ok(format!("{report}; 2 rows in Postgres; nodes {nodes:?}"))
}

/// The scale subresource works both ways.
pub(crate) async fn scale(stage: &Stage) -> Result<String> {
    for nodes in ["5", "2", "3"] {
        kubectl(&["-n", NAMESPACE, "scale", "chatcluster", BOUND, "--replicas", nodes])?;
        stage.at_rest(BOUND, nodes.parse().context("a number")?).await?;
    }
    Ok("5, 2 and 3 nodes were reached".into())
}
