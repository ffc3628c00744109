//! The way of spans to the collector: OTLP over HTTP, in batches, beside everything else. A collector that is away or slow costs spans and
//! nothing more, and the metrics tell how many.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use axum::http::{Request, Response};
use bytes::Bytes;
use crds::node_config;
use http_body_util::{BodyExt, Full, Limited};
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    resource::EnvResourceDetector,
    trace::{SpanData, SpanExporter as _},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    https::{self, HttpsClient, chain},
    metric::Metric,
};

/// Spans that wait for the collector; beyond, they are dropped and counted.
const WAITING_MAX: usize = 4_096;

/// Spans that are sent together.
const BATCH_MAX: usize = 512;

/// How long a batch gathers.
const GATHER: Duration = Duration::from_millis(500);

/// How long the collector may take for a batch, with all attempts.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of the collector's answer that are read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What goes to the task.
pub(super) enum Item {
    /// A span.
    Span(Box<SpanData>),
    /// Somebody waits until what came before was sent, or given up.
    Flush(oneshot::Sender<()>),
}

/// Starts the task, which ends when nobody has spans for it any more.
///
/// # Errors
/// When the endpoint is no address.
pub(super) fn start(config: &node_config::Traces, node: &str) -> Result<mpsc::Sender<Item>, String> {
    let endpoint = format!("{}/v1/traces", config.endpoint.trim_end_matches('/'));
    let exporter = SpanExporter::builder().with_http().with_http_client(Courier(https::client(None, 1)?));
    let exporter = exporter.with_endpoint(endpoint).with_protocol(Protocol::HttpBinary).with_timeout(PATIENCE);
    let mut exporter = exporter.build().map_err(|error| error.to_string())?;
    let resource = Resource::builder_empty().with_service_name("chat-node").with_attributes([
        KeyValue::new("service.instance.id", node.to_owned()),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
    ]);
    exporter.set_resource(&resource.with_detector(Box::new(EnvResourceDetector::new())).build());
    let (items, waiting) = mpsc::channel(WAITING_MAX);
    tokio::spawn(run(exporter, waiting));
    Ok(items)
}

async fn run(exporter: SpanExporter, mut items: mpsc::Receiver<Item>) {
    let mut is_away = false;
    while let Some(first) = items.recv().await {
        let (batch, flushed) = gather(first, &mut items).await;
        let count = batch.len() as u64;
        if count > 0 {
            match exporter.export(batch).await {
                Ok(()) => {
                    Metric::Spans.count_by_for("sent", count);
                    is_away = false;
                }
                Err(error) => {
                    Metric::Spans.count_by_for("failed", count);
                    // Once, not for every batch.
                    if !std::mem::replace(&mut is_away, true) {
                        tracing::warn!(%error, "the collector takes no spans");
                    }
                }
            }
        }
        if let Some(waiter) = flushed {
            let _ = waiter.send(());
        }
    }
}

/// Takes spans until there are enough, a while has passed, or somebody waits for them to be sent.
async fn gather(first: Item, items: &mut mpsc::Receiver<Item>) -> (Vec<SpanData>, Option<oneshot::Sender<()>>) {
    let until = Instant::now() + GATHER;
    let (mut batch, mut next) = (Vec::new(), Some(first));
    while let Some(item) = next {
        match item {
            Item::Span(span) => batch.push(*span),
            Item::Flush(waiter) => return (batch, Some(waiter)),
        }
        if batch.len() == BATCH_MAX {
            break;
        }
        next = timeout_at(until, items.recv()).await.unwrap_or(None);
    }
    (batch, None)
}

/// Waits until all that was given so far was sent or given up, but not for ever.
pub(super) async fn flush(items: &mpsc::Sender<Item>, within: Duration) {
    let (waiter, flushed) = oneshot::channel();
    let flush = async {
        if items.send(Item::Flush(waiter)).await.is_ok() {
            let _ = flushed.await;
        }
    };
    if timeout(within, flush).await.is_err() {
        tracing::warn!("some spans were not sent in time");
    }
}

/// Carries batches by the client that the node has anyway.
struct Courier(HttpsClient<Full<Bytes>>);

impl fmt::Debug for Courier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Courier")
    }
}

#[async_trait]
impl HttpClient for Courier {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let exchange = async {
            let response = self.0.request(request.map(Full::new)).await.map_err(|error| chain(&error))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| chain(&*error))?;
            Ok::<_, String>(Response::from_parts(parts, body.to_bytes()))
        };
        timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err("no answer in time".into())).map_err(Into::into)
    }
}
