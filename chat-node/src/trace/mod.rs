//! Traces: the way of some messages through the nodes, as spans that a collector is told of. The only room that knows OpenTelemetry.
//!
//! Whether a message is followed is decided by its event's id alone, and that id is the trace's: whoever has the one finds the other, and
//! within a node nothing has to be handed from room to room but when something began. To other nodes the context travels beside the
//! event, in the form of W3C. A span is made when what it tells of is over, so one that is not wanted costs a comparison.
//!
//! A span never has a text, a token or a user's name in it.

mod export;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

use crds::node_config;
use opentelemetry::{
    Context, InstrumentationScope, KeyValue,
    propagation::TextMapPropagator,
    trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{SpanData, SpanEvents, SpanLinks},
};
use rand::RngExt;
use tokio::sync::mpsc;
use uuid::Uuid;

use self::export::Item;
use crate::{
    event::{Event, EventBody},
    metric::Metric,
};

/// The key of a context in the form of W3C (<https://www.w3.org/TR/trace-context/#traceparent-header>).
const TRACEPARENT: &str = "traceparent";

/// Follows some messages, or none. Cheap to clone.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Following>>);

struct Following {
    /// Ids whose random end is below this are followed.
    below: u64,
    scope: InstrumentationScope,
    spans: mpsc::Sender<Item>,
}

/// What an event that is followed has with it on its way through a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trail {
    /// The span that brought it this far.
    parent: SpanContext,
    /// When it came this far.
    since: SystemTime,
}

/// A span of which all but the end is known.
pub struct Begun {
    context: SpanContext,
    parent: SpanContext,
    kind: SpanKind,
    name: &'static str,
    began: SystemTime,
    event: Uuid,
}

impl Begun {
    /// The event and its context, as another node reads them.
    pub fn told(&self) -> (Uuid, String) {
        let mut carrier = HashMap::new();
        let context = Context::new().with_remote_span_context(self.context.clone());
        TraceContextPropagator::new().inject_context(&context, &mut carrier);
        (self.event, carrier.remove(TRACEPARENT).unwrap_or_default())
    }
}

impl Traces {
    /// Follows the configured share of messages, and tells the collector of them in the background.
    ///
    /// # Errors
    /// The key and what is wrong with it.
    pub fn start(config: Option<&node_config::Traces>, node: &str) -> Result<Traces, (&'static str, String)> {
        let Some(config) = config else { return Ok(Traces::default()) };
        let spans = export::start(config, node).map_err(|why| ("traces.endpoint", why))?;
        let scope = InstrumentationScope::builder("chat-node").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Traces(Some(Arc::new(Following { below: below(config.sample_ratio), scope, spans }))))
    }

    /// The time, if anything is followed.
    pub fn now(&self) -> Option<SystemTime> {
        self.0.as_ref().map(|_| SystemTime::now())
    }

    /// Whether this event is followed.
    fn follows(&self, event: Uuid) -> Option<&Following> {
        self.0.as_deref().filter(|following| is_below(event, following.below))
    }

    /// The time, if this event is followed.
    pub fn begin(&self, event: Uuid) -> Option<SystemTime> {
        self.follows(event).map(|_| SystemTime::now())
    }

    /// A send was answered.
    pub fn sent(&self, event: Uuid, room: Uuid, began: Option<SystemTime>, outcome: &'static str) {
        if let (Some(following), Some(began)) = (self.follows(event), began) {
            let attributes = vec![of_room(room), KeyValue::new("chat.outcome", outcome)];
            let parent = SpanContext::NONE;
            following.tell(Span {
                context: root(event),
                parent,
                kind: SpanKind::Server,
                name: "send",
                began,
                attributes,
            });
        }
    }

    /// A request was answered that left these events.
    pub fn requested(&self, began: Option<SystemTime>, events: &[Event]) {
        let Some(began) = began else { return };
        for event in events {
            if let Some(following) = self.follows(event.id) {
                let (context, parent, attributes) = (root(event.id), SpanContext::NONE, vec![of_room(event.room)]);
                following.tell(Span { context, parent, kind: SpanKind::Server, name: "request", began, attributes });
            }
        }
    }

    /// Sends are in the durable queue.
    pub fn queued(&self, began: Option<SystemTime>, events: impl Iterator<Item = Uuid>) {
        let Some(began) = began else { return };
        for event in events {
            if let Some(following) = self.follows(event) {
                let parent = root(event);
                let (context, attributes) = (child_of(&parent), Vec::new());
                following.tell(Span { context, parent, kind: SpanKind::Producer, name: "queue", began, attributes });
            }
        }
    }

    /// A batch was committed with these new events in it. They all link to one span of the whole.
    pub fn committed<'a>(&self, began: Option<SystemTime>, sends: usize, new: impl Iterator<Item = &'a EventBody>) {
        let Some(began) = began else { return };
        let mut batch = None;
        for event in new {
            let Some(following) = self.follows(event.id) else { continue };
            let batch = batch.get_or_insert_with(|| {
                let (context, parent) = (of_its_own(), SpanContext::NONE);
                let attributes = vec![KeyValue::new("chat.sends", i64::try_from(sends).unwrap_or(i64::MAX))];
                let (kind, name) = (SpanKind::Internal, "commit batch");
                following.tell(Span { context: context.clone(), parent, kind, name, began, attributes });
                context
            });
            let parent = root(event.id);
            let (context, kind) = (child_of(&parent), SpanKind::Internal);
            let attributes = vec![of_room(event.room), KeyValue::new("chat.seq", event.seq)];
            let span = Span { context, parent, kind, name: "commit", began, attributes };
            following.tell_linked(span, Some(batch.clone()));
        }
    }

    /// Gives a trail to those of the events that are followed, on the node that put them into the log.
    pub fn mark(&self, events: &mut [Event]) {
        if self.0.is_some() {
            for event in events {
                let trail = || Box::new(Trail { parent: root(event.id), since: SystemTime::now() });
                event.trail = self.follows(event.id).map(|_| trail());
            }
        }
    }

    /// Events are about to be told to other nodes.
    pub fn leaving(&self, events: &[Event]) -> Vec<Begun> {
        let begun = |event: &Event| {
            let Trail { parent, since } = *event.trail.clone()?;
            let (context, kind) = (child_of(&parent), SpanKind::Producer);
            Some(Begun { context, parent, kind, name: "publish", began: since, event: event.id })
        };
        if self.0.is_some() { events.iter().filter_map(begun).collect() } else { Vec::new() }
    }

    /// Events came from another node, which has told what context they have. Whether they are followed is for that node to say.
    pub fn arriving(&self, events: &mut [Event], told: &BTreeMap<Uuid, String>) -> Vec<Begun> {
        if self.0.is_none() || told.is_empty() {
            return Vec::new();
        }
        let (since, mut begun) = (SystemTime::now(), Vec::new());
        for event in events {
            let Some(parent) = told.get(&event.id).and_then(|told| read(told)) else { continue };
            let (context, kind) = (child_of(&parent), SpanKind::Consumer);
            event.trail = Some(Box::new(Trail { parent: context.clone(), since }));
            begun.push(Begun { context, parent, kind, name: "receive", began: since, event: event.id });
        }
        begun
    }

    /// What began is over.
    pub fn over(&self, begun: Vec<Begun>) {
        let Some(following) = self.0.as_deref() else { return };
        for Begun { context, parent, kind, name, began, .. } in begun {
            following.tell(Span { context, parent, kind, name, began, attributes: Vec::new() });
        }
    }

    /// Events with these trails went to so many connections.
    pub fn delivered(&self, trails: impl Iterator<Item = Box<Trail>>, connections: usize) {
        let Some(following) = self.0.as_deref() else { return };
        for Trail { parent, since: began } in trails.map(|trail| *trail) {
            let (context, kind) = (child_of(&parent), SpanKind::Internal);
            let attributes = vec![KeyValue::new("chat.connections", i64::try_from(connections).unwrap_or(i64::MAX))];
            following.tell(Span { context, parent, kind, name: "deliver", began, attributes });
        }
    }

    /// Waits until the collector has what there is, or did not take it, but no longer than this.
    pub async fn flush(&self, within: Duration) {
        if let Some(following) = &self.0 {
            export::flush(&following.spans, within).await;
        }
    }
}

/// A span that ends now.
struct Span {
    context: SpanContext,
    parent: SpanContext,
    kind: SpanKind,
    name: &'static str,
    began: SystemTime,
    attributes: Vec<KeyValue>,
}

impl Following {
    fn tell(&self, span: Span) {
        self.tell_linked(span, None);
    }

    /// Never waits: a span for which there is no room is dropped and counted.
    fn tell_linked(&self, span: Span, to: Option<SpanContext>) {
        let mut links = SpanLinks::default();
        links.links.extend(to.map(|to| Link::new(to, Vec::new(), 0)));
        let span = SpanData {
            span_context: span.context,
            parent_span_id: span.parent.span_id(),
            parent_span_is_remote: span.parent.is_remote(),
            span_kind: span.kind,
            name: Cow::Borrowed(span.name),
            start_time: span.began,
            end_time: SystemTime::now(),
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        };
        if self.spans.try_send(Item::Span(Box::new(span))).is_err() {
            Metric::Spans.count_for("dropped");
        }
    }
}

fn of_room(room: Uuid) -> KeyValue {
    KeyValue::new("chat.room", room.to_string())
}

/// The bound of a share: the end of a UUIDv7 that is random has 32 bits.
fn below(ratio: f64) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the ratio is from 0 to 1")]
    let below = (ratio * 2_f64.powi(32)).ceil() as u64;
    below
}

fn is_below(event: Uuid, below: u64) -> bool {
    let [.., a, b, c, d] = *event.as_bytes();
    u64::from(u32::from_be_bytes([a, b, c, d])) < below
}

fn context(trace: TraceId, span: [u8; 8]) -> SpanContext {
    SpanContext::new(trace, SpanId::from_bytes(span), TraceFlags::SAMPLED, false, TraceState::NONE)
}

/// The first span of an event's trace, whoever asks for it.
fn root(event: Uuid) -> SpanContext {
    let (_, low) = event.as_u64_pair();
    context(TraceId::from_bytes(*event.as_bytes()), low.to_be_bytes())
}

fn child_of(parent: &SpanContext) -> SpanContext {
    // Zero is no id.
    let span = rand::rng().random_range(1..=u64::MAX);
    context(parent.trace_id(), span.to_be_bytes())
}

fn of_its_own() -> SpanContext {
    root(Uuid::now_v7())
}

/// Reads a context that another node has told.
fn read(told: &str) -> Option<SpanContext> {
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), told.to_owned())]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    let context = context.span().span_context().clone();
    (context.is_valid() && context.is_sampled()).then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_events_is_followed_and_everybody_agrees_which() {
        let ids: Vec<Uuid> = (0..10_000).map(|_| Uuid::now_v7()).collect();
        let count = |ratio| ids.iter().filter(|id| is_below(**id, below(ratio))).count();
        assert_eq!((count(0.0), count(1.0)), (0, ids.len()));
        assert!((800..1_200).contains(&count(0.1)), "{}", count(0.1));
        let end = |end: u128| Uuid::from_u128(1 << 100 | end);
        assert!(is_below(end(0), below(0.5)) && is_below(end(0x7fff_ffff), below(0.5)));
        assert!(!is_below(end(0x8000_0000), below(0.5)) && is_below(end(0xffff_ffff), below(1.0)));
    }

    #[test]
    fn an_events_id_is_its_traces_and_a_context_is_read_as_it_was_told() {
        let event = Uuid::from_u128(0x0190_a1b2_c3d4_7e5f_8a9b_0c1d_2e3f_4a5b);
        let parent = root(event);
        assert_eq!(parent.trace_id().to_string(), event.simple().to_string());
        let begun = Begun {
            context: child_of(&parent),
            parent,
            kind: SpanKind::Producer,
            name: "publish",
            began: SystemTime::UNIX_EPOCH,
            event,
        };
        let (of, told) = begun.told();
        assert_eq!((of, told.len()), (event, 55));
        let read = read(&told).unwrap();
        assert_eq!((read.trace_id(), read.span_id()), (begun.context.trace_id(), begun.context.span_id()));
        assert!(read.is_remote());
    }

    #[test]
    fn what_is_no_context_or_not_to_be_followed_is_passed_over() {
        for told in [
            "",
            "00-0190a1b2c3d47e5f8a9b0c1d2e3f4a5b-0000000000000000-01",
            "00-0190a1b2c3d47e5f8a9b0c1d2e3f4a5b-00000000000000ab-00",
            "nonsense",
        ] {
            assert_eq!(read(told), None, "{told:?}");
        }
    }

    #[test]
    fn nothing_is_marked_while_nothing_is_followed() {
        let body = EventBody {
            room: Uuid::from_u128(1),
            epoch: 1,
            seq: 1,
            id: Uuid::now_v7(),
            kind: crate::event::Kind::Message,
            sender: "alice".into(),
            time: 0,
            text: None,
            details: None,
        };
        let (off, mut events) = (Traces::default(), [body.encode()]);
        off.mark(&mut events);
        let told = BTreeMap::from([(body.id, format!("00-{}-00000000000000ab-01", body.id.simple()))]);
        assert!(off.arriving(&mut events, &told).is_empty());
        assert!(off.leaving(&events).is_empty() && events[0].trail.is_none() && off.now().is_none());
    }
}
