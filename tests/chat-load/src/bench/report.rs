//! One result: a line for people, and one for machines.

use serde_json::{Map, Value, json};

/// The head of the table of all results.
pub(super) const HEAD: &str = "| scenario | measured |\n|---|---|";

/// What one scenario measured.
#[derive(Debug)]
pub(super) struct Measured {
    scenario: String,
    figures: Vec<(&'static str, f64, &'static str)>,
}

impl Measured {
    pub(super) fn new(scenario: impl Into<String>) -> Self {
        Measured { scenario: scenario.into(), figures: Vec::new() }
    }

    /// Adds a figure with its unit.
    #[must_use]
    pub(super) fn figure(mut self, name: &'static str, value: f64, unit: &'static str) -> Self {
        self.figures.push((name, value, unit));
        self
    }

    /// Adds quantiles of a histogram of microseconds, in milliseconds.
    #[must_use]
    pub(super) fn latency(self, histogram: &hdrhistogram::Histogram<u64>) -> Self {
        let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        self.figure("p50", ms(0.5), "ms").figure("p99", ms(0.99), "ms").figure("max", ms(1.0), "ms")
    }

    /// The line for people.
    pub(super) fn line(&self) -> String {
        format!("{:<28} {}", self.scenario, self.told())
    }

    /// A row of a table in Markdown, under [`HEAD`].
    pub(super) fn row(&self) -> String {
        format!("| {} | {} |", self.scenario, self.told())
    }

    fn told(&self) -> String {
        let figures =
            self.figures.iter().map(|(name, value, unit)| format!("{name} {} {unit}", short(*value)).trim().to_owned());
        figures.collect::<Vec<_>>().join(", ")
    }

    /// The line for machines: JSON, with the unit in each name.
    pub(super) fn json(&self) -> String {
        let key = |name: &str, unit: &str| {
            let unit = unit.replace(['/', ' '], "_").replace('%', "percent");
            if unit.is_empty() { name.replace(' ', "_") } else { format!("{}_{unit}", name.replace(' ', "_")) }
        };
        let figures: Map<String, Value> =
            self.figures.iter().map(|(name, value, unit)| (key(name, unit), json!(value))).collect();
        json!({"scenario": self.scenario, "figures": figures}).to_string()
    }
}

/// Three digits that matter.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_told_to_people_and_to_machines() {
        let measured =
            Measured::new("fanout").figure("rate", 1234.5, "/s").figure("server", 9.126, "us").figure("lost", 0.0, "");
        assert_eq!(measured.line(), format!("{:<28} rate 1234 /s, server 9.13 us, lost 0", "fanout"));
        assert_eq!(measured.row(), "| fanout | rate 1234 /s, server 9.13 us, lost 0 |");
        let json: Value = serde_json::from_str(&measured.json()).unwrap();
        assert_eq!(json["figures"], json!({"rate__s": 1234.5, "server_us": 9.126, "lost": 0.0}));
    }
}
