//! Durations and amounts for tables: few characters, the largest units.

use std::time::Duration;

const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];

/// Returns a duration in its two largest units: `7s`, `12m 5s`, `3h 12m`, `4d 3h`.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let large = UNITS.iter().position(|(size, _)| seconds >= *size).unwrap_or(UNITS.len() - 1);
    let (size, unit) = UNITS[large];
    let mut text = format!("{}{unit}", seconds / size);
    if let Some((small_size, small_unit)) = UNITS.get(large + 1) {
        text.push_str(&format!(" {}{small_unit}", seconds % size / small_size));
    }
    text
}

/// Returns a duration in its largest unit: `7s`, `3h`.
pub(crate) fn ago(duration: Duration) -> String {
    let text = span(duration);
    text.split(' ').next().unwrap_or(&text).to_owned()
}

/// Returns an amount of memory: `512B`, `1.5KiB`, `212MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count}B");
    }
    let mut value = count as f64;
    let mut unit = "B";
    for larger in UNITS {
        // Also what would be shown as 1024 of a unit is one of the next.
        if value < 1023.5 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if value < 9.95 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") }
}

/// Returns a share of one CPU: `0.4%`, `150%`.
pub(crate) fn percent(share: f64) -> String {
    let value = share * 100.0;
    if value < 9.95 { format!("{value:.1}%") } else { format!("{value:.0}%") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_or_one() {
        for (seconds, two, one) in [
            (0, "0s", "0s"),
            (7, "7s", "7s"),
            (60, "1m 0s", "1m"),
            (725, "12m 5s", "12m"),
            (11_520, "3h 12m", "3h"),
            (356_400, "4d 3h", "4d"),
        ] {
            let duration = Duration::from_secs(seconds);
            assert_eq!((span(duration).as_str(), ago(duration).as_str()), (two, one));
        }
    }

    #[test]
    fn amounts_have_two_or_more_digits() {
        for (count, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1536, "1.5KiB"),
            (222_298_112, "212MiB"),
            (1_048_575, "1.0MiB"),
            (5_368_709_120, "5.0GiB"),
            (u64::MAX, "16384PiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(percent(0.004), "0.4%");
        assert_eq!(percent(1.5), "150%");
    }
}
