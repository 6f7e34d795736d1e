//! Counters, gauges and histograms, from one thread and from many.

#![cfg(feature = "metrics")]

use std::time::Duration;

use keepd::metrics::{MetricsCollector, Timer};

#[test]
fn counts_of_many_threads_add_up_also_of_those_that_ended() {
    let metrics = MetricsCollector::new();
    let shared = metrics.counter("requests");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    metrics.increment_counter("requests", 1);
                    shared.increment(1);
                }
            });
        }
    });
    assert_eq!(metrics.get_metrics().counters["requests"], 160_000);
    assert_eq!(shared.value(), 160_000);
}

#[test]
fn a_snapshot_while_others_count_is_never_too_large_and_never_goes_back() {
    let metrics = MetricsCollector::new();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            // Every thread ends, and is replaced, many times: its count must move without a gap.
            scope.spawn(|| {
                for _ in 0..200 {
                    std::thread::scope(|inner| {
                        inner.spawn(|| metrics.increment_counter("n", 1));
                    });
                }
            });
        }
        let mut last = 0;
        while last < 400 {
            let now = metrics.get_metrics().counters.get("n").copied().unwrap_or(0);
            assert!(now >= last && now <= 400, "{now} after {last}");
            last = now;
            std::thread::yield_now();
        }
    });
}

#[test]
fn more_names_than_a_thread_remembers_are_counted_right() {
    let metrics = MetricsCollector::new();
    let names: Vec<String> = (0..500).map(|number| format!("name.{number}")).collect();
    for _ in 0..3 {
        for name in &names {
            metrics.increment_counter(name, 2);
            metrics.set_gauge(name, 7);
            metrics.record_histogram(name, Duration::from_millis(1));
        }
    }
    let snapshot = metrics.get_metrics();
    assert_eq!(snapshot.counters.len(), 500);
    assert!(snapshot.counters.values().all(|count| *count == 6));
    assert!(snapshot.gauges.values().all(|value| *value == 7));
    assert!(snapshot.histograms.values().all(|durations| durations.len() == 3));
}

#[test]
fn two_collectors_on_one_thread_are_two() {
    let (left, right) = (MetricsCollector::new(), MetricsCollector::new());
    for _ in 0..3 {
        left.increment_counter("n", 1);
        right.clone().increment_counter("n", 10);
    }
    assert_eq!(left.get_metrics().counters["n"], 3);
    assert_eq!(right.get_metrics().counters["n"], 30);
}

#[test]
fn after_a_reset_everything_is_as_new_and_handles_are_good() {
    let metrics = MetricsCollector::new();
    let (counter, gauge) = (metrics.counter("n"), metrics.gauge("g"));
    let histogram = metrics.histogram("h");
    let use_all = || {
        metrics.increment_counter("n", 1);
        counter.increment(1);
        gauge.set(5);
        histogram.record(Duration::from_millis(2));
    };
    use_all();
    metrics.reset();
    let snapshot = metrics.get_metrics();
    assert!(snapshot.counters.is_empty() && snapshot.gauges.is_empty());
    assert!(snapshot.histograms.is_empty());
    assert_eq!((counter.value(), gauge.value()), (0, 0));
    use_all();
    let snapshot = metrics.get_metrics();
    assert_eq!((snapshot.counters["n"], snapshot.gauges["g"]), (2, 5));
    assert_eq!(snapshot.histograms["h"].len(), 1);
}

#[test]
fn a_histogram_keeps_the_last_2048_in_their_order_and_counts_all() {
    let metrics = MetricsCollector::new();
    for number in 0..5000 {
        metrics.record_histogram("h", Duration::from_nanos(number));
    }
    let snapshot = metrics.get_metrics();
    let expected: Vec<Duration> = (2952..5000).map(Duration::from_nanos).collect();
    assert_eq!(snapshot.histograms["h"], expected);
    let totals: Vec<_> = snapshot.totals().collect();
    assert_eq!(totals, [("h", 5000, Duration::from_nanos(4999 * 5000 / 2))]);
}

#[test]
fn a_timer_records_exactly_once_however_it_ends() {
    let metrics = MetricsCollector::new();
    Timer::new(metrics.clone(), "stopped").stop();
    drop(Timer::new(metrics.clone(), String::from("dropped")));
    let snapshot = metrics.get_metrics();
    assert_eq!(snapshot.histograms["stopped"].len(), 1);
    assert_eq!(snapshot.histograms["dropped"].len(), 1);
}

#[test]
fn prometheus_gets_legal_names_in_the_same_order_every_time() {
    let metrics = MetricsCollector::new();
    for name in ["zebra", "http.requests", "9lives", "a-b c", "mid"] {
        metrics.increment_counter(name, 1);
        metrics.set_gauge(&format!("g.{name}"), 2);
    }
    metrics.record_histogram("latency.ms", Duration::from_millis(1500));
    let without_uptime = |text: String| text.split_once("\n# TYPE g_").unwrap().1.to_owned();
    let first = without_uptime(metrics.get_metrics().render_prometheus());
    for _ in 0..5 {
        assert_eq!(without_uptime(metrics.get_metrics().render_prometheus()), first);
    }
    let text = metrics.get_metrics().render_prometheus();
    assert!(text.starts_with("# HELP proc_uptime_seconds "), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.split_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(!name.starts_with(|c: char| c.is_ascii_digit()), "{line}");
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line}");
    }
    let counters = text.split_once("# TYPE _9lives counter").unwrap().1;
    let names = counters.lines().filter(|line| !line.starts_with('#'));
    let names: Vec<&str> = names.map(|line| line.split_once(' ').map_or("", |p| p.0)).collect();
    let expected = [
        "",
        "_9lives",
        "a_b_c",
        "http_requests",
        "mid",
        "zebra",
        "latency_ms_count",
        "latency_ms_sum",
    ];
    assert_eq!(names, expected);
    assert!(text.ends_with("# TYPE latency_ms summary\nlatency_ms_count 1\nlatency_ms_sum 1.5\n"));
}

#[test]
fn names_that_differ_in_illegal_letters_stay_two() {
    let metrics = MetricsCollector::new();
    metrics.increment_counter("a.b", 1);
    metrics.increment_counter("a_b", 2);
    metrics.set_gauge("a-b", 3);
    let text = metrics.get_metrics().render_prometheus();
    for line in ["\na_b 3\n", "\na_b_ 1\n", "\na_b__ 2\n"] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn a_name_that_is_used_while_a_thread_ends_is_counted() {
    struct AtTheEnd(MetricsCollector);
    impl Drop for AtTheEnd {
        fn drop(&mut self) {
            self.0.increment_counter("last", 1);
            self.0.set_gauge("last", 1);
            self.0.record_histogram("last", Duration::ZERO);
        }
    }
    thread_local! {
        static LATE: std::cell::RefCell<Option<AtTheEnd>> = const { std::cell::RefCell::new(None) };
    }
    let metrics = MetricsCollector::new();
    let inside = metrics.clone();
    let thread = std::thread::spawn(move || {
        LATE.with_borrow_mut(|late| *late = Some(AtTheEnd(inside.clone())));
        inside.increment_counter("last", 1);
    });
    thread.join().unwrap();
    let snapshot = metrics.get_metrics();
    assert_eq!(snapshot.counters["last"], 2);
    assert_eq!((snapshot.gauges["last"], snapshot.histograms["last"].len()), (1, 1));
}
