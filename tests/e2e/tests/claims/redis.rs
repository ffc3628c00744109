//! Sessions in a Redis of the claim's own, which it may end.

use anyhow::{Context, Result, ensure};
use chat_load::{
    dial::Dial,
    rest::{self, Call, RestError},
};
use e2e::{
    people::Party,
    stage::{NAMESPACE, Stage, apply, chat_cluster, kubectl, secret},
};
use http::Method;
use serde_json::json;
use services::Apart;
use uuid::Uuid;

use crate::bindings::told;

/// Of the cluster, its database and its virtual host, named as those that nobody wants back.
const NAME: &str = "seated";
const DATABASE: &str = "test_e2e_seated";

const PASSWORD: &str = "correct horse battery";

/// A Redis that is named is waited for; then every session is in it, for every node, and nowhere else. With Redis away, who is there stays.
pub(crate) async fn sessions(stage: &Stage) -> Result<String> {
    let apart = Apart::new()?;
    apart.redis.start()?;
    apply(&secret("seated-pg", &[("uri", &stage.services.postgres.database(DATABASE, stage.host())?)]))?;
    apply(&secret("seated-mq", &[("uri", &stage.services.rabbitmq.vhost(DATABASE, stage.host())?)]))?;
    let form = |name: &str| json!({"secret": {"name": name}});
    let spec = json!({"replicas": 2, "postgres": form("seated-pg"), "rabbitmq": form("seated-mq"), "redis": form("seated-rd"),
        "updateStrategy": {"drainSeconds": 1}});
    apply(&chat_cluster(NAME, spec))?;
    told(stage, NAME, "RedisBound", "SecretNotFound", "\"seated-rd\"").await?;
    let made = stage.pods(NAME).await?.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).count();
    ensure!(made == 0, "pods were made that cannot start");
    apply(&secret("seated-rd", &[("note", "nothing")]))?;
    told(stage, NAME, "RedisBound", "KeyMissing", "\"host\"").await?;
    let redis = apart.redis.fresh_database_at(stage.host())?;
    apply(&secret("seated-rd", &[("uri", &redis)]))?;
    stage.at_rest(NAME, 2).await?;
    let bound = stage.condition(NAME, "RedisBound").await?.context("a condition")?;
    ensure!((&*bound.0, &*bound.1) == ("True", "Bound"), "{bound:?}");

    let dials = stage.each_pod(NAME).await?;
    let [first, second] = &dials[..] else { anyhow::bail!("two pods") };
    // The database may be that of a run before.
    let alice = format!("a{}", Uuid::new_v4().simple());
    rest::register(&**first, &alice, PASSWORD).await?;
    let signed_in = rest::sign_in(&**first, &alice, PASSWORD).await?;
    let has = |session: Uuid| apart.redis.has(&redis, &format!("chatcluster:login:{session}"));
    ensure!(has(signed_in.session)?, "the session is not in Redis");
    let refreshed = rest::refresh(&**second, &signed_in.refresh_token).await.context("on the other node")?;
    ensure!(refreshed.session == signed_in.session && has(refreshed.session)?, "the session was not kept");
    let rows = stage.services.postgres.sql(DATABASE, "SELECT count(*) FROM logins")?;
    ensure!(rows.trim() == "0", "{} sessions are in Postgres", rows.trim());

    let party = Party::gather(&dials).await?;
    party.converse().await?;
    apart.redis.kill()?;
    let refused = |error: &RestError| matches!(error, RestError::Refused { code, .. } if code == "unavailable");
    let without = rest::sign_in(&**second, &alice, PASSWORD).await;
    ensure!(without.as_ref().is_err_and(refused), "signing in without Redis gave {without:?}");
    party.converse().await.context("with Redis away")?;
    ensure!(stage.pods(NAME).await?.len() == 2, "a pod went with Redis");
    apart.redis.start()?;
    let back = || async { Ok(rest::sign_in(&**first, &alice, PASSWORD).await.ok()) };
    stage.until("somebody to get in with Redis back", back).await?;
    ensure!(has(refreshed.session)?, "Redis came back without the session");

    let end = format!("/api/v1/sessions/{}", refreshed.session);
    let call = Call { method: Method::DELETE, path: &end, token: Some(&refreshed.token), ..Call::default() };
    let answer = rest::call(&**second as &dyn Dial, &call).await?;
    ensure!(answer.status == 204, "ending the session gave {answer:?}");
    ensure!(!has(refreshed.session)?, "the session that was ended is still in Redis");
    let over = rest::refresh(&**first, &refreshed.refresh_token).await;
    let gone = |error: &RestError| matches!(error, RestError::Refused { code, .. } if code == "bad_refresh_token");
    ensure!(over.as_ref().is_err_and(gone), "a session that was ended went on: {over:?}");
    let report = party.judge().await?;
    ensure!(report.is_clean(), "{report}");
    party.end().await;
    kubectl(&["-n", NAMESPACE, "delete", "chatcluster", NAME])?;
    kubectl(&["-n", NAMESPACE, "delete", "secret", "seated-pg", "seated-mq", "seated-rd"])?;
    Ok(format!("in Redis alone, for both nodes, through its end and return: {report}"))
}
