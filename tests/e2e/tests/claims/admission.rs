//! What the API server refuses.

use anyhow::{Result, ensure};
use e2e::stage::{Stage, apply, chat_cluster, kubectl};
use serde_json::{Value, json};

/// Each bad spec is refused with a sentence that says what to write instead.
pub(crate) async fn bad_specs(_stage: &Stage) -> Result<String> {
    let secret = || json!({"secret": {"name": "s"}});
    let long_name = "a".repeat(53);
    let bad: [(&str, Value, &str); 12] = [
        ("bad", json!({"replicas": 3}), "set postgres and rabbitmq, or set replicas to 1"),
        (
            "bad",
            json!({"postgres": {"secret": {"name": "s"}, "cluster": {"name": "c"}}, "rabbitmq": secret()}),
            "either secret: {name: ...} or cluster: {name: ...}",
        ),
        ("bad", json!({"postgres": {}, "rabbitmq": secret()}), "either secret: {name: ...} or cluster: {name: ...}"),
        ("bad", json!({"postgres": secret()}), "set both, or neither for a single self-contained node"),
        ("bad", json!({"updateStrategy": {"drainSeconds": -5}}), "should be greater than or equal to 0"),
        ("bad", json!({"replica": 1}), "unknown field \"spec.replica\""),
        (
            "bad",
            json!({"storage": {"size": "1Gi"}, "postgres": secret(), "rabbitmq": secret()}),
            "remove storage, or remove postgres and rabbitmq",
        ),
        ("bad", json!({"updateStrategy": {"maxSurge": 0, "maxUnavailable": "0%"}}), "cannot both be zero"),
        ("bad", json!({"updateStrategy": {"maxSurge": "101%"}}), "a percentage from 0% to 100%"),
        ("bad", json!({"updateStrategy": {"maxUnavailable": -1}}), "a number of nodes from 0"),
        (&long_name, json!({}), "longer than 52 characters"),
        ("bad.name", json!({}), "use only a-z, 0-9 and '-'"),
    ];
    for (name, spec, sentence) in &bad {
        refused(&chat_cluster(name, spec.clone()), sentence)?;
    }
    apply(&chat_cluster("solid", json!({})))?;
    refused(
        &chat_cluster("solid", json!({"postgres": secret(), "rabbitmq": secret()})),
        "create a second ChatCluster",
    )?;
    refused(&chat_cluster("solid", json!({"storage": {"size": "1Gi"}})), "storage cannot be added or removed")?;
    kubectl(&["-n", e2e::stage::NAMESPACE, "delete", "chatcluster", "solid"])?;
    Ok(format!("{} bad specs were refused", bad.len() + 2))
}

fn refused(cluster: &Value, sentence: &str) -> Result<()> {
    match apply(cluster) {
        Ok(_) => anyhow::bail!("{cluster} was taken"),
        Err(error) => ensure!(error.to_string().contains(sentence), "{error} does not say {sentence:?}"),
    }
    Ok(())
}
