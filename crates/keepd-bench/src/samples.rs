//! Numbers that were measured, and what is said of them.

use std::time::Duration;

/// Fewer samples than this have no 90th percentile worth the name.
const P90_COUNT_MIN: usize = 10;
/// The same for the 99th.
const P99_COUNT_MIN: usize = 100;

/// Samples of one quantity, in the order of size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds a number.
    pub fn push(&mut self, value: f64) {
        let place = self.0.partition_point(|other| *other <= value);
        self.0.insert(place, value);
    }

    /// Adds a time, in milliseconds.
    pub fn push_time(&mut self, time: Duration) {
        self.push(time.as_secs_f64() * 1_000.0);
    }

    /// Returns how many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the smallest.
    pub fn min(&self) -> Option<f64> {
        self.0.first().copied()
    }

    /// Returns the one in the middle, or the mean of the two there.
    pub fn median(&self) -> Option<f64> {
        let middle = self.0.len() / 2;
        match self.0.len() {
            0 => None,
            count if count % 2 == 1 => Some(self.0[middle]),
            _ => Some(f64::midpoint(self.0[middle - 1], self.0[middle])),
        }
    }

    /// Returns the 90th percentile, if there are at least ten samples.
    pub fn p90(&self) -> Option<f64> {
        self.percentile(90, P90_COUNT_MIN)
    }

    /// Returns the 99th percentile, if there are at least a hundred samples.
    pub fn p99(&self) -> Option<f64> {
        self.percentile(99, P99_COUNT_MIN)
    }

    /// Nearest rank: the smallest sample that so many percent do not exceed.
    fn percentile(&self, percent: usize, count_min: usize) -> Option<f64> {
        let count = self.0.len();
        let rank = (count * percent).div_ceil(100);
        if count < count_min { None } else { self.0.get(rank.checked_sub(1)?).copied() }
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut samples = Self::default();
        values.into_iter().for_each(|value| samples.push(value));
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_is_between_the_two_in_the_middle() {
        let samples: Samples = [4.0, 1.0, 3.0, 2.0].into_iter().collect();
        assert_eq!((samples.median(), samples.min()), (Some(2.5), Some(1.0)));
        let samples: Samples = [3.0, 1.0, 2.0].into_iter().collect();
        assert_eq!(samples.median(), Some(2.0));
        assert_eq!(Samples::default().median(), None);
    }

    #[test]
    fn percentiles_need_enough_samples() {
        let hundred: Samples = (1..=100).map(f64::from).collect();
        assert_eq!((hundred.p90(), hundred.p99()), (Some(90.0), Some(99.0)));
        let few: Samples = (1..=9).map(f64::from).collect();
        assert_eq!((few.p90(), few.p99()), (None, None));
        let ten: Samples = (1..=10).map(f64::from).collect();
        assert_eq!((ten.p90(), ten.p99()), (Some(9.0), None));
    }
}
