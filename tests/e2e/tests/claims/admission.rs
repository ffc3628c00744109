//! What the API server refuses.

use anyhow::{Result, ensure};
use e2e::stage::{NAMESPACE, Stage, apply, chat_cluster, kubectl};
use serde_json::{Value, json};

/// Each bad spec is refused with a sentence that says what to write instead.
pub(crate) async fn bad_specs(stage: &Stage) -> Result<String> {
    let secret = || json!({"secret": {"name": "s"}});
    let long_name = "a".repeat(53);
    let bad: [(&str, Value, &str); 34] = [
        ("bad", json!({"persistence": "Queued"}), "set postgres and rabbitmq, or write Direct"),
        ("bad", json!({"replicas": 3}), "set postgres and rabbitmq, or set replicas to 1"),
        (
            "bad",
            json!({"postgres": {"secret": {"name": "s"}, "cluster": {"name": "c"}}, "rabbitmq": secret()}),
            "in exactly one way: secret: {name: ...}",
        ),
        ("bad", json!({"postgres": {}, "rabbitmq": secret()}), "in exactly one way: secret: {name: ...}"),
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
        ("bad", json!({"updateStrategy": {"maxSurge": 3_000_000_000_u32}}), "a number of nodes from 0 to 1000"),
        (
            "bad",
            json!({"auth": {"tokenSeconds": 3600, "refreshSeconds": 60}}),
            "a refresh token has to outlive the token that it replaces",
        ),
        ("bad", json!({"limits": {"webIdleSeconds": 10}}), "should be greater than or equal to 30"),
        ("bad", json!({"auth": {"algorithm": "RS256"}}), "supported values: \"HS256\", \"HS384\", \"HS512\""),
        (
            "bad",
            json!({"auth": {"keys": [{"algorithm": "none", "secret": {"name": "s"}}]}}),
            "supported values: \"HS256\"",
        ),
        (
            "bad",
            json!({"auth": {"keys": [{"algorithm": "ES256", "secret": {"name": "s"}, "audience": "chat"}]}}),
            "name the issuer too",
        ),
        (
            "bad",
            json!({"auth": {"jwks": {"url": "login.example.org", "issuer": "i", "audience": "chat"}}}),
            "such as https://login.example.org/keys",
        ),
        (&long_name, json!({}), "longer than 52 characters"),
        (&"a".repeat(63), json!({}), "longer than 52 characters"),
        (
            &"a".repeat(42),
            json!({"postgres": {"managed": {}}, "rabbitmq": {"managed": {}}}),
            "longer than 41 characters",
        ),
        (&"a".repeat(37), json!({"postgres": secret(), "rabbitmq": {"managed": {}}}), "longer than 36 characters"),
        (
            "bad",
            json!({"postgres": {"serviceBinding": {"apiVersion": "v1", "kind": "not-a-kind", "name": "d"}}, "rabbitmq": secret()}),
            "spec.postgres.serviceBinding.kind",
        ),
        (
            "bad",
            json!({"postgres": {"managed": {"instances": 0}}, "rabbitmq": secret()}),
            "spec.postgres.managed.instances",
        ),
        (
            "bad",
            json!({"postgres": {"secret": {"name": "Not_A_Name"}}, "rabbitmq": secret()}),
            "spec.postgres.secret.name",
        ),
        ("bad", json!({"storage": {"size": "1Gi", "onDelete": "Forget"}}), "spec.storage.onDelete"),
        ("bad", json!({"service": {"trustedProxies": ["10.0.0.0/40"]}}), "such as 10.0.0.0/8"),
        ("bad", json!({"service": {"trustedProxies": ["10.0.0.1/8"]}}), "without bits behind their prefix"),
        ("bad", json!({"service": {"allowedOrigins": ["chat.example.org"]}}), "such as https://chat.example.org"),
        ("bad", json!({"traces": {"endpoint": "collector:4317"}}), "such as http://collector.monitoring:4318"),
        ("bad", json!({"traces": {"endpoint": "http://c", "sampleRatio": 2}}), "should be less than or equal to 1"),
        ("bad", json!({"redis": secret()}), "set postgres and rabbitmq, or remove redis"),
        ("bad", json!({"postgres": secret(), "rabbitmq": secret(), "redis": {}}), "spec.redis.secret"),
        ("bad.name", json!({}), "use only a-z, 0-9 and '-'"),
    ];
    for (name, spec, sentence) in &bad {
        refused(&chat_cluster(name, spec.clone()), sentence)?;
    }
    apply(&chat_cluster("solid", json!({"updateStrategy": {"maxSurge": null}})))?;
    let surge = "-o=jsonpath={.spec.updateStrategy.maxSurge}";
    let surge = kubectl(&["-n", NAMESPACE, "get", "chatcluster", "solid", surge])?;
    ensure!(surge == "25%", "in place of a null there is {surge:?}");
    refused(
        &chat_cluster("solid", json!({"postgres": secret(), "rabbitmq": secret()})),
        "create a second ChatCluster",
    )?;
    refused(&chat_cluster("solid", json!({"storage": {"size": "1Gi"}})), "storage cannot be added or removed")?;
    colliding_labels_lose()?;
    the_condition_names_what_the_schema_takes(stage).await?;
    kubectl(&["-n", NAMESPACE, "delete", "chatcluster", "solid"])?;
    Ok(format!("{} bad specs were refused", bad.len() + 2))
}

/// What the schema takes and the API server would refuse in a child, without a word of whose field it is.
async fn the_condition_names_what_the_schema_takes(stage: &Stage) -> Result<()> {
    let env = json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]);
    for (pod, field) in [
        (json!({"resources": {"limits": {"memory": "512Mb"}}}), "spec.pod.resources: limits.memory: \"512Mb\""),
        (json!({"env": env}), "spec.pod.env: \"A\""),
    ] {
        apply(&chat_cluster("solid", json!({"replicas": 0, "pod": pod})))?;
        let is_told = || async {
            let told = stage.condition("solid", "Ready").await?;
            Ok(told.filter(|(_, reason, message)| reason == "Invalid" && message.contains(field)))
        };
        stage.until(field, is_told).await?;
    }
    Ok(())
}

/// A label of the user that collides with one of the operator's is not taken, and no pod escapes its Service.
fn colliding_labels_lose() -> Result<()> {
    let labels = json!({"app.kubernetes.io/instance": "other", "team": "chat"});
    apply(&chat_cluster("solid", json!({"replicas": 0, "pod": {"labels": labels}})))?;
    let set = kubectl(&["-n", NAMESPACE, "wait", "--for=create", "--timeout=60s", "statefulset/solid"])?;
    let path = "-o=jsonpath={.spec.template.metadata.labels.team} {.spec.template.metadata.labels.app\\.kubernetes\\.io/instance}";
    kubectl(&[
        "-n",
        NAMESPACE,
        "wait",
        "--for=jsonpath={.spec.template.metadata.labels.team}=chat",
        "--timeout=60s",
        "statefulset/solid",
    ])?;
    let seen = kubectl(&["-n", NAMESPACE, "get", "statefulset", "solid", path])?;
    ensure!(seen == "chat solid", "{set}: the labels are {seen:?}");
    Ok(())
}

fn refused(cluster: &Value, sentence: &str) -> Result<()> {
    match apply(cluster) {
        Ok(_) => anyhow::bail!("{cluster} was taken"),
        Err(error) => ensure!(error.to_string().contains(sentence), "{error} does not say {sentence:?}"),
    }
    Ok(())
}
