//! The twenty defects of proc-daemon 1.1.3 that must not come back. Each has a test that would have
//! caught it; this file holds those that belong nowhere else, and says where the others are.
//!
//! | defect | tests |
//! |---|---|
//! | 1 restart policies never applied | `subsystems::defect_1_…`, `examples::rows_2_3_and_4_…` |
//! | 2 `shutdown()` with signals on hangs | `daemon::defect_2_…` |
//! | 3 a panic stays Running | `subsystems::defect_3_…`, `examples::rows_2_3_and_4_…` |
//! | 4 stop waits 500 ms only | `subsystems::defect_4_…`, `examples::row_6_…` |
//! | 5 force and kill only sleep | `subsystems::defect_5_…`, `examples::row_7_…` |
//! | 6 one cannot be stopped, a restart doubles it | `subsystems::defect_6_…` |
//! | 7 clones are empty | `subsystems::` and `daemon::defect_7_…`, `examples::row_14_…` |
//! | 8 a failed run is Ok | `daemon::defect_8_…`, `examples::row_5_…` |
//! | 9 environment and files | `configuration_files`, `config::load`, `examples::rows_10_…` |
//! | 10 pid files without lock | `pid_files`, `examples::rows_12_and_13_…` |
//! | 11 a live socket is deleted | `unix_sockets::a_socket_with_a_listener_is_not_taken_away` |
//! | 12 configured signals kill | `examples::defect_12_…` |
//! | 13 handlers too late, second TERM lost | `examples::defect_13_…`, `examples::row_8_…` |
//! | 14 logging | `daemon::defect_14_…`, `logging`, `logging::file` of the crate |
//! | 15 timer twice, names with dots | `metrics::a_timer_…`, `metrics::prometheus_gets_…` |
//! | 16 processor time, alerts | `resources::tracker` and `resources::sample` of the crate |
//! | 17 renice, affinity, allocator | here, `proc_daemon_document` |
//! | 18 quadratic stop, random ids | here, `subsystems::defect_18_…` |
//! | 19 health closure boxed every time | here |
//! | 20 hot reload | `configuration_watch`, `daemon::defect_20_…`, `examples::row_9_…` |

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use keepd::{Result, ShutdownHandle, Subsystem, SubsystemManager};
use rustix::time::{ClockId, clock_gettime};

/// Processor time of this thread: what others do on the machine does not count.
fn spent() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap())
}

/// Returns what it costs to stop so many.
async fn cost_of_stop(count: u64) -> Duration {
    let manager = SubsystemManager::default();
    for number in 1..=count {
        let id = manager.register_fn("many", |mut shutdown| async move {
            shutdown.cancelled().await;
            Ok(())
        });
        assert_eq!(id, number);
    }
    manager.start_all().await.unwrap();
    let before = spent();
    manager.stop_all().await.unwrap();
    spent() - before
}

#[tokio::test(flavor = "current_thread")]
async fn defect_18_ten_times_as_many_stop_in_about_ten_times_the_time() {
    // The first one pays for what is made once.
    cost_of_stop(100).await;
    let (few, many) = (cost_of_stop(2_000).await, cost_of_stop(20_000).await);
    assert!(many < few * 40, "a hundred times would be quadratic: {few:?} and {many:?}");
}

struct Checked {
    asked: Arc<AtomicU32>,
    answered: Arc<AtomicU32>,
}

impl Subsystem for Checked {
    fn run(
        &self,
        mut shutdown: ShutdownHandle,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        Box::pin(async move {
            shutdown.cancelled().await;
            Ok(())
        })
    }

    fn name(&self) -> &str {
        "checked"
    }

    fn health_check(&self) -> Option<Box<dyn Fn() -> bool + Send + Sync>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answered = Arc::clone(&self.answered);
        Some(Box::new(move || {
            answered.fetch_add(1, Ordering::SeqCst);
            true
        }))
    }
}

#[tokio::test]
async fn defect_19_a_health_check_is_made_once_and_asked_often() {
    let (asked, answered) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
    let manager = SubsystemManager::default();
    let id =
        manager.register(Checked { asked: Arc::clone(&asked), answered: Arc::clone(&answered) });
    manager.start_all().await.unwrap();
    for _ in 0..10 {
        assert_eq!(manager.run_health_checks(), [(id, "checked".to_owned(), true)]);
    }
    assert_eq!((asked.load(Ordering::SeqCst), answered.load(Ordering::SeqCst)), (1, 10));
    manager.stop_all().await.unwrap();
}

/// Page faults of children that were waited for; see proc_pid_stat(5).
#[cfg(all(feature = "scheduler-hints", target_os = "linux"))]
fn faults_of_children() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, after_name) = text.rsplit_once(')').unwrap();
    after_name.split_whitespace().nth(8).unwrap().parse().unwrap()
}

#[cfg(all(feature = "scheduler-hints", target_os = "linux"))]
#[test]
fn defect_17_hints_start_no_program() {
    let before = faults_of_children();
    keepd::scheduler::apply_process_hints(&keepd::Config::default());
    keepd::scheduler::apply_runtime_hints();
    assert_eq!(faults_of_children(), before);
}
