//! Small programs that count, run in every order that their threads can take.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;

use super::cell::{Counter, CounterCell, Gauge, GaugeCell, Histogram, HistogramCell};

fn counter() -> Counter {
    Counter(Arc::<CounterCell>::default())
}

#[test]
fn a_sum_during_the_count_is_never_too_large_and_never_goes_back() {
    loom::model(|| {
        let counter = counter();
        let other = counter.clone();
        let thread = thread::spawn(move || {
            other.increment(1);
            other.increment(1);
        });
        let (first, second) = (counter.value(), counter.value());
        assert!(first <= second && second <= 2, "{first} {second}");
        thread.join().unwrap();
        assert_eq!(counter.value(), 2);
    });
}

#[test]
fn the_count_of_a_thread_that_ends_is_there_exactly_once() {
    loom::model(|| {
        let counter = counter();
        let local = counter.local();
        let thread = thread::spawn(move || {
            local.increment(3);
            drop(local);
        });
        let during = counter.value();
        assert!(during == 0 || during == 3, "{during}");
        thread.join().unwrap();
        assert_eq!(counter.value(), 3);
    });
}

#[test]
fn a_count_during_a_reset_comes_before_it_or_after_it() {
    for is_local in [true, false] {
        loom::model(move || {
            let counter = counter();
            counter.increment(7);
            let other = counter.clone();
            let thread = thread::spawn(move || {
                if is_local { other.local().increment(1) } else { other.increment(1) }
            });
            counter.0.reset();
            thread.join().unwrap();
            let after = counter.value();
            assert!(after <= 1, "{after}");
            counter.increment(1);
            assert_eq!(counter.value(), after + 1, "a count came back from before");
        });
    }
}

#[test]
fn a_gauge_shows_only_what_was_set() {
    loom::model(|| {
        let gauge = Gauge(Arc::<GaugeCell>::default());
        let threads = [5, 7].map(|value| {
            let gauge = gauge.clone();
            thread::spawn(move || gauge.set(value))
        });
        let during = gauge.0.value();
        assert!(matches!(during, None | Some(5 | 7)), "{during:?}");
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(matches!(gauge.value(), 5 | 7));
    });
}

#[test]
fn a_histogram_keeps_what_two_threads_record() {
    loom::model(|| {
        let histogram = Histogram(Arc::<HistogramCell>::default());
        let other = histogram.clone();
        let thread = thread::spawn(move || other.record(Duration::from_secs(1)));
        histogram.record(Duration::from_secs(2));
        thread.join().unwrap();
        let recorded = histogram.0.recorded().unwrap();
        assert_eq!((recorded.count, recorded.durations.len()), (2, 2));
        assert_eq!(recorded.sum, Duration::from_secs(3));
    });
}
