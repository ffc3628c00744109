//! Bindings under TLS, from a pod: servers of the claim's own that speak nothing else, and an authority that is mounted.

use anyhow::{Result, ensure};
use e2e::{
    people::Party,
    stage::{NAMESPACE, Stage, apply, chat_cluster, kubectl, secret},
};
use serde_json::json;
use services::{Apart, Authority, parts};

/// Of the cluster.
const NAME: &str = "sealed";

/// All three services are spoken with under TLS. A server that the authority does not prove is not spoken with, and the reason is told;
/// the right authority is enough.
pub(crate) async fn bindings(stage: &Stage) -> Result<String> {
    let authority = Authority::new("ours")?;
    let apart = Apart::with_tls(&authority.sign(stage.host())?)?;
    apart.up()?;
    apart.redis.start()?;
    let bound = |name: &str, url: String, last: &str, ca: Option<&str>| {
        let parts = parts(&url, last)?;
        let parts = parts.iter().map(|(key, part)| (&**key, &**part));
        let host = [("host", stage.host())];
        apply(&secret(name, &parts.chain(host).chain(ca.map(|ca| ("ca.crt", ca))).collect::<Vec<_>>()))
    };
    // The one authority in the Secret itself, as most write it, and the other in a Secret of its own under another key.
    bound("sealed-pg", apart.postgres.fresh_database()?, "database", None)?;
    bound("sealed-mq", apart.rabbitmq.fresh_vhost()?, "vhost", Some(&authority.certificate))?;
    bound("sealed-rd", apart.redis.fresh_database()?, "database", Some(&authority.certificate))?;
    let wrong = Authority::new("another")?.certificate;
    apply(&secret("sealed-ca", &[("authority.pem", &wrong)]))?;
    let form = |name: &str| json!({"secret": {"name": name}});
    let mut postgres = form("sealed-pg");
    postgres["ca"] = json!({"name": "sealed-ca", "key": "authority.pem"});
    let spec = json!({"postgres": postgres, "rabbitmq": form("sealed-mq"), "redis": form("sealed-rd"),
        "updateStrategy": {"drainSeconds": 1, "soakSeconds": 1}});
    apply(&chat_cluster(NAME, spec))?;
    let why = stage.until("the condition to tell why", || async {
        let told = stage.condition(NAME, "Ready").await?;
        Ok(told.filter(|(ready, _, why)| ready == "False" && why.contains("sealed-0 cannot use postgres")))
    });
    let why = why.await?;
    ensure!(why.1 == "NodesInTrouble" && why.2.contains("UnknownIssuer"), "{why:?}");
    let of_trouble =
        ["-n", NAMESPACE, "get", "events", "-o=name", "--field-selector=type=Warning,reason=NodesInTrouble"];
    stage
        .until("an Event that tells so", || async { Ok(Some(kubectl(&of_trouble)?).filter(|told| !told.is_empty())) })
        .await?;

    apply(&secret("sealed-ca", &[("authority.pem", &authority.certificate)]))?;
    stage.at_rest(NAME, 1).await?;
    let service = stage.service(NAME);
    let party = Party::gather(&[service.clone(), service]).await?;
    party.converse().await?;
    let report = party.judge().await?;
    ensure!(report.is_clean(), "{report}");
    party.end().await;
    kubectl(&["-n", NAMESPACE, "delete", "chatcluster", NAME])?;
    kubectl(&["-n", NAMESPACE, "delete", "secret", "sealed-pg", "sealed-mq", "sealed-rd", "sealed-ca"])?;
    Ok(format!("a server that could not be proved was not spoken with; then, under TLS with all three: {report}"))
}
