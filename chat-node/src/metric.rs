//! Every metric of a node, in one table: its name, its kind, what it tells, and the closed set that its label is from.
//!
//! The only file that knows how metrics are kept. A label never comes from a user, and nothing else of a user gets in.

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds of latencies, in seconds. What an alert asks for is one of them: between two, Prometheus can but guess.
const LATENCY_SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Upper bounds of batch sizes.
const SENDS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 500.0];

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "`Metric::about` says what each tells")]
pub enum Metric {
    Connections,
    ConnectionsOpened,
    ConnectionsClosed,
    Refusals,
    Errors,
    RestRequests,
    Logins,
    Refreshes,
    SessionsEnded,
    Sends,
    SendsCommitted,
    SendsAccepted,
    SendsWaiting,
    SendsQueued,
    QueueRefusals,
    DeadLetters,
    SendsFailed,
    AckLatency,
    DeliveryLatency,
    CommitBatch,
    Deliveries,
    Resumes,
    RoomsResident,
    StoreUp,
    BusUp,
    BusDropped,
    BusMissed,
    GapReads,
    LogReads,
    Epochs,
    EventsExpired,
    OutboxesExpired,
    Spans,
    RedisUp,
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// It only grows while the process runs.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It counts observations by these upper bounds.
    Histogram(&'static [f64]),
}

impl Kind {
    /// Its name in Prometheus.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        }
    }
}

/// A label and the closed set of its values.
pub type Label = (&'static str, &'static [&'static str]);

/// What there is to know of a metric.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its label, if it has one.
    pub label: Option<Label>,
    /// What it tells.
    pub help: &'static str,
}

const fn plain(name: &'static str, kind: Kind, help: &'static str) -> About {
    About { name, kind, label: None, help }
}

const fn labelled(name: &'static str, kind: Kind, label: Label, help: &'static str) -> About {
    About { name, kind, label: Some(label), help }
}

impl Metric {
    /// All metrics.
    pub const ALL: [Metric; 34] = [
        Metric::Connections,
        Metric::ConnectionsOpened,
        Metric::ConnectionsClosed,
        Metric::Refusals,
        Metric::Errors,
        Metric::RestRequests,
        Metric::Logins,
        Metric::Refreshes,
        Metric::SessionsEnded,
        Metric::Sends,
        Metric::SendsCommitted,
        Metric::SendsAccepted,
        Metric::SendsWaiting,
        Metric::SendsQueued,
        Metric::QueueRefusals,
        Metric::DeadLetters,
        Metric::SendsFailed,
        Metric::AckLatency,
        Metric::DeliveryLatency,
        Metric::CommitBatch,
        Metric::Deliveries,
        Metric::Resumes,
        Metric::RoomsResident,
        Metric::StoreUp,
        Metric::BusUp,
        Metric::BusDropped,
        Metric::BusMissed,
        Metric::GapReads,
        Metric::LogReads,
        Metric::Epochs,
        Metric::EventsExpired,
        Metric::OutboxesExpired,
        Metric::Spans,
        Metric::RedisUp,
    ];

    /// What there is to know of it.
    #[rustfmt::skip]
    pub const fn about(self) -> About {
        use Kind::{Counter, Gauge, Histogram};
        const CLIENT: Label = ("client", &["unnamed", "web", "mobile"]);
        const CLOSED: Label = ("reason", &["client", "idle", "frame_too_large", "node_leaving", "too_many_connections", "bad_token",
            "token_expired", "signed_out", "no_hello", "slow_consumer", "history_changed", "unavailable"]);
        const REFUSED: Label = ("reason", &["node_connections", "address_connections", "address_rate", "address_shut_out",
            "address_requests", "user_requests", "user_sends", "node_sockets", "address_sockets", "origin", "slow_request", "slow_reader"]);
        const ERRORS: Label = ("code", &["bad_frame", "not_identified", "already_identified", "bad_token", "token_expired", "forbidden", "empty_text",
            "text_too_long", "bad_text", "bad_name", "room_exists", "unknown_room", "unknown_user", "not_a_member",
            "not_allowed", "muted", "banned", "unknown_event", "bad_reaction", "too_many_reactions", "too_many_mentions",
            "bad_duration", "unknown_member", "too_many_watched", "room_full", "too_many_rooms", "outbox_missing",
            "outbox_gap", "outbox_forgotten", "too_fast", "overloaded", "unavailable", "internal", "bad_request",
            "too_large", "not_json", "unknown_path", "bad_method", "slow_request", "too_many_requests", "bad_username",
            "bad_password", "username_taken", "bad_refresh_token", "too_many_attempts", "unknown_bot", "unknown_token",
            "too_many_tokens", "unknown_announcement", "too_many_announcements", "unknown_session", "bad_credentials",
            "wrong_password", "accounts_off"]);
        const BURIED: Label = ("reason", &["unknown_room", "not_a_member", "empty_text", "text_too_long", "bad_text", "outbox_gap",
            "outbox_forgotten", "internal", "unreadable", "muted", "unknown_event", "too_many_mentions", "forbidden"]);
        const STATUS: Label = ("status", &["2xx", "4xx", "5xx"]);
        const LOGGED_IN: Label = ("outcome", &["ok", "bad_credentials", "too_many_attempts"]);
        const REFRESHED: Label = ("outcome", &["rotated", "repeated", "reused", "unknown"]);
        const SPANS: Label = ("outcome", &["sent", "failed", "dropped"]);
        const ENDED: Label = ("cause", &["signed_out", "reused", "displaced", "revoked", "password_changed"]);
        const RESUMED: Label = ("outcome", &["replayed", "too_far", "reset"]);
        match self {
            Metric::Connections => labelled("chat_connections", Gauge, CLIENT,
                "Open connections; unnamed until the client has said which type it is"),
            Metric::ConnectionsOpened => plain("chat_connections_opened_total", Counter, "Connections that were opened"),
            Metric::ConnectionsClosed => labelled("chat_connections_closed_total", Counter, CLOSED,
                "Connections that ended, by the close code's name; client when the client left"),
            Metric::Refusals => labelled("chat_refusals_total", Counter, REFUSED, "Connections and requests that a limit refused"),
            Metric::Errors => labelled("chat_errors_total", Counter, ERRORS, "Errors that clients were told, over connections and REST, by their code"),
            Metric::RestRequests => labelled("chat_rest_requests_total", Counter, STATUS, "REST requests that were answered"),
            Metric::Logins => labelled("chat_logins_total", Counter, LOGGED_IN, "Attempts to log in with a password, or to change it"),
            Metric::Refreshes => labelled("chat_refreshes_total", Counter, REFRESHED, "Refresh tokens that were shown"),
            Metric::SessionsEnded => labelled("chat_sessions_ended_total", Counter, ENDED,
                "Sessions and bots' tokens that were ended before their time, on whichever node asked for it"),
            Metric::Sends => plain("chat_sends_total", Counter, "Sends that arrived"),
            Metric::SendsCommitted => plain("chat_sends_committed_total", Counter, "Sends that were acknowledged as committed"),
            Metric::SendsAccepted => plain("chat_sends_accepted_total", Counter,
                "Sends that were acknowledged as accepted: durable in the queue"),
            Metric::SendsQueued => plain("chat_sends_queued", Gauge, "Sends that wait for the next batch"),
            Metric::SendsWaiting => plain("chat_sends_waiting", Gauge, "Sends that this node's clients wait for"),
            Metric::QueueRefusals => plain("chat_queue_refusals_total", Counter, "Sends that the queue refused"),
            Metric::DeadLetters => labelled("chat_dead_letters_total", Counter, BURIED,
                "Sends in the queue that could never be written"),
            Metric::SendsFailed => plain("chat_sends_failed_total", Counter, "Sends that failed for no fault of the client"),
            Metric::AckLatency => plain("chat_ack_latency_seconds", Histogram(LATENCY_SECONDS),
                "Time from a send's arrival to its first acknowledgement"),
            Metric::DeliveryLatency => plain("chat_delivery_latency_seconds", Histogram(LATENCY_SECONDS),
                "Time from a message's arrival, on whatever node, to its delivery on this one; as exact as the nodes' clocks agree"),
            Metric::CommitBatch => plain("chat_commit_batch_sends", Histogram(SENDS), "Sends that were committed together"),
            Metric::Deliveries => plain("chat_deliveries_total", Counter, "Events that were put into connections' queues"),
            Metric::Resumes => labelled("chat_resumes_total", Counter, RESUMED, "Rooms that were resumed"),
            Metric::RoomsResident => plain("chat_rooms_resident", Gauge, "Rooms that have a member here"),
            Metric::StoreUp => plain("chat_store_up", Gauge, "1 when the database answered, else 0"),
            Metric::BusUp => plain("chat_bus_up", Gauge, "1 when RabbitMQ can be reached, else 0"),
            Metric::RedisUp => plain("chat_redis_up", Gauge, "1 when the Redis that sessions live in can be reached, or there is none, else 0"),
            Metric::BusDropped => plain("chat_bus_dropped_total", Counter, "Batches that were not given to the bus, which was slow or away"),
            Metric::BusMissed => plain("chat_bus_missed_total", Counter, "Times that something from another node may have been missed"),
            Metric::GapReads => plain("chat_gap_reads_total", Counter, "Reads of the store because the bus left a gap"),
            Metric::LogReads => plain("chat_log_reads_total", Counter, "Reads of the store for clients that were behind"),
            Metric::Epochs => plain("chat_epochs_total", Counter,
                "Times that this node found another database, or one set back, and began new epochs"),
            Metric::EventsExpired => plain("chat_events_expired_total", Counter, "Events that were dropped because they are older than the cluster keeps"),
            Metric::OutboxesExpired => plain("chat_outboxes_expired_total", Counter, "Outboxes that were dropped because nobody has used them for long"),
            Metric::Spans => labelled("chat_spans_total", Counter, SPANS,
                "Spans of traces: sent to the collector, not taken by it, or dropped because too many waited for it"),
        }
    }

    /// Counts.
    pub fn count(self) {
        counter!(self.about().name).increment(1);
    }

    /// Counts so many.
    pub fn count_by(self, number: u64) {
        counter!(self.about().name).increment(number);
    }

    /// Counts under a value of the label.
    pub fn count_for(self, value: &'static str) {
        counter!(self.about().name, self.label(value) => value).increment(1);
    }

    /// Counts so many under a value of the label.
    pub fn count_by_for(self, value: &'static str, number: u64) {
        counter!(self.about().name, self.label(value) => value).increment(number);
    }

    /// Sets a counter that is kept elsewhere.
    pub fn count_is(self, total: u64) {
        counter!(self.about().name).absolute(total);
    }

    /// Sets.
    pub fn set(self, value: f64) {
        gauge!(self.about().name).set(value);
    }

    /// Raises, or lowers, under a value of the label.
    pub fn change_for(self, value: &'static str, by: f64) {
        gauge!(self.about().name, self.label(value) => value).increment(by);
    }

    /// Observes.
    pub fn observe(self, value: f64) {
        histogram!(self.about().name).record(value);
    }

    fn label(self, value: &'static str) -> &'static str {
        let (label, values) = self.about().label.unwrap_or_default();
        debug_assert!(values.contains(&value), "{self:?} has no {label}={value}");
        label
    }
}

/// Keeps metrics for `/metrics` from now on. Every counter and gauge is there from the start, so that an alert on one that has never
/// counted sees a zero and not nothing.
///
/// # Errors
/// When the process keeps metrics already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for About { name, kind, .. } in Metric::ALL.map(Metric::about) {
        if let Kind::Histogram(bounds) = kind {
            builder = builder.set_buckets_for_metric(Matcher::Full(name.into()), bounds)?;
        }
    }
    let handle = builder.install_recorder()?;
    for About { name, kind, label, help } in Metric::ALL.map(Metric::about) {
        let (label, values) = label.map_or(("", &[""][..]), |label| label);
        let labels = |value: &&'static str| -> Vec<(&'static str, &'static str)> {
            if label.is_empty() { Vec::new() } else { vec![(label, *value)] }
        };
        match kind {
            Kind::Counter => {
                describe_counter!(name, help);
                values.iter().for_each(|value| counter!(name, &labels(value)).increment(0));
            }
            Kind::Gauge => {
                describe_gauge!(name, help);
                values.iter().for_each(|value| gauge!(name, &labels(value)).set(0.0));
            }
            Kind::Histogram(_) => describe_histogram!(name, help),
        }
    }
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_those_of_prometheus_and_each_is_there_once() {
        let names: BTreeSet<&str> = Metric::ALL.iter().map(|metric| metric.about().name).collect();
        assert_eq!(names.len(), Metric::ALL.len());
        for About { name, kind, .. } in Metric::ALL.map(Metric::about) {
            assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
        }
    }

    #[test]
    fn every_metric_is_in_the_page_with_its_kind_and_its_label() {
        let page = include_str!("../../docs/operations.md");
        for About { name, kind, label, .. } in Metric::ALL.map(Metric::about) {
            let label = label.map_or(String::new(), |(label, _)| format!("`{label}`"));
            let row = format!("| `{name}` | {} | {label}{}|", kind.as_str(), if label.is_empty() { "" } else { " " });
            assert!(page.lines().any(|line| line.starts_with(&row)), "docs/operations.md has no row {row}");
        }
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `chat_")?.split('`').next());
        for row in rows {
            let name = format!("chat_{row}");
            assert!(Metric::ALL.iter().any(|metric| metric.about().name == name), "{name} is no metric");
        }
    }

    #[test]
    fn every_reason_to_close_is_a_label() {
        use crate::protocol::CloseReason;
        let (_, values) = Metric::ConnectionsClosed.about().label.unwrap();
        assert!(CloseReason::ALL.iter().all(|reason| values.contains(&reason.as_str())));
    }

    #[test]
    fn every_code_is_a_label() {
        let (_, values) = Metric::Errors.about().label.unwrap();
        assert!(crate::protocol::Code::ALL.iter().all(|code| values.contains(&code.as_str())));
        assert_eq!(values.iter().collect::<BTreeSet<_>>().len(), values.len(), "one is there twice");
    }

    #[test]
    fn what_alerts_rest_on_is_there() {
        let rules = include_str!("../../config/monitoring/rules.yaml");
        let words = rules.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let named: BTreeSet<&str> =
            words.filter(|word| word.starts_with("chat_")).map(|word| word.trim_end_matches("_bucket")).collect();
        assert!(named.len() > 3, "{named:?}");
        for name in named {
            assert!(Metric::ALL.iter().any(|metric| metric.about().name == name), "{name} is no metric of a node");
        }
    }

    fn bounds(name: &str) -> &'static [f64] {
        let about = Metric::ALL.map(Metric::about).into_iter().find(|about| about.name == name);
        match about.map(|about| about.kind) {
            Some(Kind::Histogram(bounds)) => bounds,
            other => panic!("{name} is no histogram of a node: {other:?}"),
        }
    }

    /// Only where a bucket ends does Prometheus know how many were quicker.
    #[test]
    fn an_alert_asks_for_a_quantile_where_a_bucket_ends() {
        let rules = include_str!("../../config/monitoring/rules.yaml");
        let asked: Vec<_> = rules.lines().filter(|line| line.contains("histogram_quantile(")).collect();
        assert!(!asked.is_empty());
        for line in asked {
            let name = line.split("rate(").nth(1).unwrap().split("_bucket").next().unwrap();
            let threshold: f64 = line.rsplit(" > ").next().unwrap().trim().parse().unwrap();
            assert!(bounds(name).contains(&threshold), "{name} has no bucket that ends at {threshold}");
        }
    }

    #[test]
    fn what_alerts_are_tested_with_is_what_a_node_tells() {
        let tests = include_str!("../../tests/alerts/rules.test.yaml");
        let series: Vec<_> = tests.split("series: '").skip(1).filter_map(|rest| rest.split('\'').next()).collect();
        let of_nodes: Vec<_> = series.into_iter().filter(|series| series.starts_with("chat_")).collect();
        assert!(of_nodes.len() > 3, "{of_nodes:?}");
        for series in of_nodes {
            let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap();
            for (label, value) in labels.split(',').filter_map(|label| label.split_once('=')) {
                let value = value.trim_matches('"');
                let is_told = match label {
                    "namespace" | "pod" => true,
                    "le" => {
                        value == "+Inf" || bounds(name.trim_end_matches("_bucket")).contains(&value.parse().unwrap())
                    }
                    _ => Metric::ALL.iter().any(|metric| {
                        let about = metric.about();
                        about.name == name
                            && about.label.is_some_and(|(its, values)| its == label && values.contains(&value))
                    }),
                };
                assert!(is_told, "no node tells {series}: {label}");
            }
        }
    }
}
