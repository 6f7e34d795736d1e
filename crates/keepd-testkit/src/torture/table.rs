//! The figures of all rounds, as a table.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::{Figures, OutputFigures, Round, Victim};

/// What came of all rounds so far.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rounds: usize,
    kills: BTreeMap<Victim, usize>,
    pairs: usize,
    times: BTreeMap<Victim, Vec<Duration>>,
    figures: Figures,
    output: OutputFigures,
    findings: usize,
}

impl Table {
    /// Adds a round.
    pub fn add(&mut self, round: &Round) {
        self.rounds += 1;
        for (victim, count) in &round.kills {
            *self.kills.entry(*victim).or_default() += count;
        }
        self.pairs += round.pairs;
        for (victim, times) in &round.times {
            self.times.entry(*victim).or_default().extend(times);
        }
        let Figures { services, starts, ends, repeated, never_ran, unknown } = round.figures;
        self.figures.services = self.figures.services.max(services);
        self.figures.starts += starts;
        self.figures.ends += ends;
        self.figures.repeated += repeated;
        self.figures.never_ran += never_ran;
        self.figures.unknown += unknown;
        self.output.bytes += round.output.bytes;
        self.output.lines += round.output.lines;
        self.findings += round.findings.len();
    }

    /// Returns how many kills there were.
    pub fn kills(&self) -> usize {
        self.kills.values().sum()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { services, starts, ends, never_ran, unknown, .. } = self.figures;
        let OutputFigures { bytes, lines } = self.output;
        let (rounds, kills, pairs) = (self.rounds, self.kills(), self.pairs);
        writeln!(formatter, "| what | count |")?;
        writeln!(formatter, "| --- | --: |")?;
        for (what, count) in [
            ("rounds", rounds),
            ("services in each", services),
            ("kills", kills),
            ("of them two at once", 2 * pairs),
            ("starts", starts),
            ("ends that were reported", ends),
            ("generations reported to have never run", never_ran),
            ("ends that nobody knows", unknown),
            ("lines of output", lines),
            ("bytes of output", bytes),
            ("promises broken", self.findings),
        ] {
            writeln!(formatter, "| {what} | {count} |")?;
        }
        writeln!(formatter)?;
        writeln!(formatter, "| killed | kills | control back: p50 | p99 | max |")?;
        writeln!(formatter, "| --- | --: | --: | --: | --: |")?;
        for (victim, count) in &self.kills {
            let mut times = self.times.get(victim).cloned().unwrap_or_default();
            times.sort_unstable();
            let show = |percent| show(percentile(&times, percent));
            let (p50, p99, max) = (show(50), show(99), show(100));
            writeln!(formatter, "| {victim} | {count} | {p50} | {p99} | {max} |")?;
        }
        Ok(())
    }
}

/// Nearest rank: the smallest time that so many percent do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

fn show(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{:.1} ms", time.as_secs_f64() * 1_000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_add_up() {
        let ms = Duration::from_millis;
        let round = Round {
            kills: BTreeMap::from([(Victim::Proxy, 2), (Victim::Manager, 1)]),
            times: BTreeMap::from([(Victim::Proxy, vec![ms(30), ms(10)])]),
            findings: vec!["lost".to_owned()],
            ..Round::default()
        };
        let mut table = Table::default();
        table.add(&round);
        table.add(&round);
        assert_eq!(table.kills(), 6);
        let text = table.to_string();
        assert!(text.contains("| promises broken | 2 |"), "{text}");
        assert!(text.contains("| proxy | 4 | 10.0 ms | 30.0 ms | 30.0 ms |"), "{text}");
        assert!(text.contains("| manager | 2 | - | - | - |"), "{text}");
    }
}
