//! A collector that takes OTLP over HTTP and keeps what it is told, byte for byte.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message;
use tokio::{net::TcpListener, sync::watch, time::timeout};
use uuid::Uuid;

/// A span, and the node that it is from.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) node: String,
    pub(crate) span: Span,
}

impl Told {
    pub(crate) fn is_of(&self, trace: Uuid) -> bool {
        self.span.trace_id == trace.as_bytes()
    }
}

/// What was told so far: the requests' bytes, and the spans in them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) bodies: Vec<Bytes>,
    pub(crate) spans: Vec<Told>,
}

/// A running collector.
pub(crate) struct Collector {
    pub(crate) url: String,
    heard: Arc<watch::Sender<Heard>>,
}

impl Collector {
    pub(crate) async fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heard: Arc<watch::Sender<Heard>> = Arc::default();
        let routes = Router::new().route("/v1/traces", post(take)).with_state(heard.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Collector { url, heard }
    }

    pub(crate) fn heard(&self) -> Heard {
        self.heard.borrow().clone()
    }

    /// Waits until what was heard is as it should be.
    pub(crate) async fn until(&self, within: Duration, is_so: impl Fn(&Heard) -> bool) -> Heard {
        self.wait(within, is_so).await.unwrap_or_else(|| {
            let heard = self.heard();
            let told: Vec<_> = heard.spans.iter().map(|told| (&told.node, &told.span.name)).collect();
            panic!("it was told only {told:?}")
        })
    }

    /// The same; `None` when that takes longer.
    pub(crate) async fn wait(&self, within: Duration, is_so: impl Fn(&Heard) -> bool) -> Option<Heard> {
        let mut heard = self.heard.subscribe();
        let heard = timeout(within, heard.wait_for(is_so)).await.ok()?;
        Some(heard.unwrap().clone())
    }
}

async fn take(State(heard): State<Arc<watch::Sender<Heard>>>, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body.clone()) else { return StatusCode::BAD_REQUEST };
    let mut spans = Vec::new();
    for of_node in request.resource_spans {
        let attributes = of_node.resource.map(|resource| resource.attributes).unwrap_or_default();
        let node = text(&attributes, "service.instance.id").expect("a node says which it is").to_owned();
        let found = of_node.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.extend(found.map(|span| Told { node: node.clone(), span }));
    }
    heard.send_modify(|heard| {
        heard.bodies.push(body);
        heard.spans.extend(spans);
    });
    StatusCode::OK
}

/// An attribute that is a text.
pub(crate) fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}
