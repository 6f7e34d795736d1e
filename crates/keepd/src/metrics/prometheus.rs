//! The text that Prometheus reads.
//!
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

use super::snapshot::MetricsSnapshot;

impl MetricsSnapshot {
    /// Returns the numbers as the text that Prometheus reads: the uptime, then gauges, counters and
    /// histograms (their count and sum in seconds), each by name. Two snapshots of the same numbers
    /// give the same text. What is not legal in a name becomes `_`.
    ///
    /// ```
    /// use keepd::metrics::MetricsCollector;
    ///
    /// let metrics = MetricsCollector::new();
    /// metrics.increment_counter("http.requests", 3);
    /// let text = metrics.get_metrics().render_prometheus();
    /// assert!(text.ends_with("# TYPE http_requests counter\nhttp_requests 3\n"));
    /// ```
    pub fn render_prometheus(&self) -> String {
        let mut text = String::with_capacity(128 * (1 + self.counters.len() + self.gauges.len()));
        text.push_str("# HELP proc_uptime_seconds How long the process has counted.\n");
        text.push_str("# TYPE proc_uptime_seconds gauge\n");
        line(&mut text, "proc_uptime_seconds", "", &self.uptime.as_secs_f64());
        let mut names = Names(HashSet::from(["proc_uptime_seconds".to_owned()]));
        for (name, value) in names.sorted(self.gauges.iter()) {
            kind(&mut text, &name, "gauge");
            line(&mut text, &name, "", value);
        }
        for (name, value) in names.sorted(self.counters.iter()) {
            kind(&mut text, &name, "counter");
            line(&mut text, &name, "", value);
        }
        let totals = self.totals().map(|(name, count, sum)| (name, (count, sum)));
        for (name, (count, sum)) in names.sorted(totals) {
            kind(&mut text, &name, "summary");
            line(&mut text, &name, "_count", &count);
            line(&mut text, &name, "_sum", &sum.as_secs_f64());
        }
        text
    }
}

/// The names that are given away: two lines of one name would make the whole text illegal.
struct Names(HashSet<String>);

impl Names {
    /// Returns values by name, with legal names that nobody else has.
    fn sorted<N, V>(&mut self, values: impl Iterator<Item = (N, V)>) -> BTreeMap<String, V>
    where
        N: AsRef<str>,
    {
        let mut values: Vec<(N, V)> = values.collect();
        values.sort_by(|(left, _), (right, _)| left.as_ref().cmp(right.as_ref()));
        let named = values.into_iter().map(|(name, value)| {
            let mut name = legal(name.as_ref());
            while !self.0.insert(name.clone()) {
                name.push('_');
            }
            (name, value)
        });
        named.collect()
    }
}

fn kind(text: &mut String, name: &str, kind: &str) {
    writeln!(text, "# TYPE {name} {kind}").expect("a string takes every text");
}

fn line(text: &mut String, name: &str, end: &str, value: &dyn std::fmt::Display) {
    writeln!(text, "{name}{end} {value}").expect("a string takes every text");
}

/// Returns a name with nothing but `[a-zA-Z0-9_:]`, and no digit in front.
fn legal(name: &str) -> String {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let mut legal: String = name.chars().map(|c| if is_legal(c) { c } else { '_' }).collect();
    if legal.starts_with(|c: char| c.is_ascii_digit()) || legal.is_empty() {
        legal.insert(0, '_');
    }
    legal
}
