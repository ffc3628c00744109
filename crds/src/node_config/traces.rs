//! `traces`: where spans go, and of how many messages.

use serde::{Deserialize, Serialize};

use super::web::is_address;

/// Where spans go, and of how many messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Traces {
    /// A collector that takes OTLP over HTTP (protobuf). `/v1/traces` is added to it.
    pub endpoint: String,
    /// The share of messages that are followed, from 0 to 1.
    #[serde(default = "default_sample_ratio", skip_serializing_if = "is_default_sample_ratio")]
    pub sample_ratio: f64,
}

/// The share of messages that are followed unless told otherwise: one in a hundred.
pub const SAMPLE_RATIO: f64 = 0.01;

fn default_sample_ratio() -> f64 {
    SAMPLE_RATIO
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_default_sample_ratio(ratio: &f64) -> bool {
    *ratio == SAMPLE_RATIO
}

impl Traces {
    /// What makes no sense: the key, and what to write instead.
    pub(super) fn nonsense(&self) -> Option<(&'static str, &'static str)> {
        let after_scheme = ["https://", "http://"].iter().find_map(|scheme| self.endpoint.strip_prefix(scheme));
        let Some(rest) = after_scheme.filter(|rest| !rest.is_empty() && is_address(&self.endpoint)) else {
            return Some(("traces.endpoint", "must be the collector's address, such as http://collector:4318"));
        };
        if rest.contains(['@', '?', '#', ' ']) {
            return Some(("traces.endpoint", "must be an address without a user, a query or a fragment"));
        }
        (!(0.0..=1.0).contains(&self.sample_ratio))
            .then_some(("traces.sampleRatio", "must be from 0 (no message) to 1 (every message)"))
    }
}

#[cfg(test)]
mod tests {
    use super::SAMPLE_RATIO;
    use crate::{NodeConfig, node_config::tests::refused};

    #[test]
    fn what_makes_no_sense_is_named_with_what_to_write() {
        refused("traces: {sampleRatio: 1}", "missing field `endpoint`");
        refused("traces: {endpoint: 'collector:4317'}", "traces.endpoint: must be the collector's address, such as");
        refused("traces: {endpoint: 'http://'}", "traces.endpoint: must be the collector's address");
        for bad in ["http://a:b:c", "http://[::1", "http://collector/a b", "http://collector/<id>"] {
            refused(
                &format!("traces: {{endpoint: '{bad}'}}"),
                "traces.endpoint: must be the collector's address, such as",
            );
        }
        refused("traces: {endpoint: 'http://a@collector'}", "traces.endpoint: must be an address without a user");
        refused("traces: {endpoint: 'http://c', sampleRatio: 1.5}", "traces.sampleRatio: must be from 0");
        refused("traces: {endpoint: 'http://c', sampleRatio: -1}", "traces.sampleRatio: must be from 0");
        refused("traces: {endpoint: 'http://c', sampleRatio: .nan}", "traces.sampleRatio: must be from 0");
        refused("traces: {endpoint: 'http://c', ratio: 1}", "traces: unknown field `ratio`");
    }

    #[test]
    fn the_usual_share_is_left_out() {
        let config = NodeConfig::from_yaml("traces: {endpoint: 'http://collector:4318'}").unwrap();
        assert_eq!(config.traces.as_ref().unwrap().sample_ratio, SAMPLE_RATIO);
        let yaml = config.to_yaml().unwrap();
        assert!(!yaml.contains("sampleRatio"), "{yaml}");
        assert_eq!(NodeConfig::from_yaml(&yaml).unwrap(), config);
    }
}
