//! The coordinator and its handles, without any subsystem.

use std::time::Duration;

use keepd::shutdown::{ShutdownCoordinator, ShutdownReason};
use keepd::{ErrorCode, SubsystemManager};
use tokio::time::{Instant, timeout};

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn waiting_for_the_end_fails_before_a_shutdown_and_after_its_time() {
    let coordinator = ShutdownCoordinator::new(1000, 2000, 3000);
    let handle = coordinator.create_handle("a");
    let error = coordinator.wait_for_shutdown().await.unwrap_err();
    assert_eq!(error.category(), "state");
    coordinator.initiate_shutdown(ShutdownReason::Requested);
    let begun = Instant::now();
    assert!(coordinator.wait_for_shutdown().await.unwrap_err().is_timeout());
    assert_eq!(begun.elapsed(), Duration::from_millis(1000));
    assert!(coordinator.wait_for_force_shutdown().await.unwrap_err().is_timeout());
    assert_eq!(begun.elapsed(), Duration::from_millis(2000), "counted from the request");
    handle.ready();
    coordinator.wait_for_kill_shutdown().await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_millis(2000), "the last one ends the wait");
    assert!(coordinator.get_stats().is_complete());
}

#[tokio::test(start_paused = true)]
async fn a_handle_knows_its_time_and_the_first_reason() {
    let coordinator = ShutdownCoordinator::new(5000, 10_000, 15_000);
    let mut handle = coordinator.create_handle("a");
    assert_eq!((handle.time_remaining(), handle.shutdown_reason()), (None, None));
    coordinator.initiate_shutdown(ShutdownReason::Signal(15));
    assert!(!coordinator.initiate_shutdown(ShutdownReason::Forced));
    handle.cancelled().await;
    assert_eq!(handle.shutdown_reason(), Some(ShutdownReason::Signal(15)));
    assert_eq!(handle.time_remaining(), Some(Duration::from_secs(5)));
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(handle.time_remaining(), None);
    assert!(!handle.is_forced(), "nobody has ended the graceful time");
    assert!(coordinator.force() && !coordinator.force());
    handle.forced().await;
    assert!(handle.is_forced());
}

#[tokio::test(start_paused = true)]
async fn everybody_who_waits_is_woken_and_a_wait_that_was_dropped_is_forgotten() {
    let coordinator = ShutdownCoordinator::new(1000, 2000, 3000);
    let handle = coordinator.create_handle("shared");
    let mut tasks = Vec::new();
    for _ in 0..100 {
        let mut clone = handle.clone();
        tasks.push(tokio::spawn(async move { clone.cancelled().await }));
    }
    let mut child = handle.child("part");
    tasks.push(tokio::spawn(async move { child.cancelled().await }));
    let waiting = coordinator.clone();
    tasks.push(tokio::spawn(async move { waiting.wait_initiated().await }));
    for task in tasks.iter().step_by(2) {
        tokio::task::yield_now().await;
        task.abort();
    }
    coordinator.initiate_shutdown(ShutdownReason::Requested);
    for task in tasks {
        let ended = timeout(LONG, task).await.expect("it is woken");
        assert!(ended.is_ok() || ended.unwrap_err().is_cancelled());
    }
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_has_gone_takes_no_part() {
    let coordinator = ShutdownCoordinator::new(1000, 2000, 3000);
    let manager = SubsystemManager::new(coordinator.clone());
    manager.register_fn("a", |_| async { Ok(()) });
    assert_eq!(coordinator.get_stats().total_subsystems, 1);
    drop(manager);
    assert_eq!(coordinator.get_stats().total_subsystems, 0);
    coordinator.initiate_shutdown(ShutdownReason::Error);
    coordinator.wait_for_shutdown().await.unwrap();
}

#[test]
fn the_wait_of_a_thread_needs_no_runtime() {
    let coordinator = ShutdownCoordinator::new(1000, 2000, 3000);
    let quit = coordinator.create_handle("thread").quit();
    let thread = std::thread::spawn(move || quit.wait(LONG));
    coordinator.initiate_shutdown(ShutdownReason::ResourceExhausted);
    assert!(thread.join().unwrap());
    let manager = SubsystemManager::new(coordinator);
    let start = std::pin::pin!(manager.start_all());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(error)) = start.poll(&mut context) else {
        panic!("it cannot start without a runtime");
    };
    assert_eq!(error.code(), ErrorCode::MissingRuntime);
}
