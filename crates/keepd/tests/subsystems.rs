//! Subsystems on a real runtime: the behaviour that proc-daemon promises, and the defects of its
//! releases that must not come back. Time is tokio's, paused; nothing sleeps.

use keepd as proc_daemon;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use proc_daemon::shutdown::ShutdownCoordinator;
use proc_daemon::subsystem::{SubsystemManager, SubsystemState};
use proc_daemon::{
    Error, RestartPolicy, Result, ShutdownHandle, ShutdownReason, Subsystem, SubsystemEvent,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

const MS: Duration = Duration::from_millis(1);

type Body =
    Box<dyn Fn(ShutdownHandle) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send + Sync>;

/// A subsystem made of parts.
struct Part {
    name: &'static str,
    policy: RestartPolicy,
    body: Body,
    healthy: Option<Arc<AtomicBool>>,
    needs: Vec<&'static str>,
}

impl Part {
    fn new<F, Fut>(name: &'static str, body: F) -> Self
    where
        F: Fn(ShutdownHandle) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let body: Body = Box::new(move |shutdown| Box::pin(body(shutdown)));
        Self { name, policy: RestartPolicy::Never, body, healthy: None, needs: Vec::new() }
    }

    fn policy(mut self, policy: RestartPolicy) -> Self {
        self.policy = policy;
        self
    }

    fn needs(mut self, name: &'static str) -> Self {
        self.needs.push(name);
        self
    }
}

impl Subsystem for Part {
    fn run(&self, shutdown: ShutdownHandle) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        (self.body)(shutdown)
    }

    fn name(&self) -> &str {
        self.name
    }

    fn restart_policy(&self) -> RestartPolicy {
        self.policy
    }

    fn health_check(&self) -> Option<Box<dyn Fn() -> bool + Send + Sync>> {
        let healthy = Arc::clone(self.healthy.as_ref()?);
        Some(Box::new(move || healthy.load(Ordering::SeqCst)))
    }

    fn depends_on(&self) -> &[&str] {
        &self.needs
    }
}

async fn until_asked(mut shutdown: ShutdownHandle) -> Result<()> {
    shutdown.cancelled().await;
    Ok(())
}

/// Lets the paused clock pass.
async fn pass(duration: Duration) {
    let _ = timeout(duration, std::future::pending::<()>()).await;
}

fn states(manager: &SubsystemManager) -> Vec<SubsystemState> {
    manager.get_all_metadata().into_iter().map(|one| one.state).collect()
}

/// Waits until the manager is in a state; the paused clock jumps to the next timer meanwhile.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            pass(MS).await;
        }
    };
    timeout(Duration::from_secs(3600), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test(start_paused = true)]
async fn defect_1_restart_policies_are_applied() {
    let manager = SubsystemManager::default();
    let (sender, mut starts) = mpsc::unbounded_channel();
    let policy = RestartPolicy::ExponentialBackoff {
        initial_delay: MS * 50,
        max_delay: MS * 400,
        max_attempts: 5,
    };
    let body = move |_| {
        let sender = sender.clone();
        async move {
            sender.send(Instant::now()).unwrap();
            Err::<(), _>(Error::runtime("no"))
        }
    };
    let id = manager.register(Part::new("flaky", body).policy(policy));
    manager.start_all().await.unwrap();
    let mut times = Vec::new();
    while times.len() < 6 {
        times.push(starts.recv().await.unwrap());
    }
    let gaps: Vec<u128> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    for (gap, expected) in gaps.into_iter().zip([50, 100, 200, 400, 400]) {
        assert!((expected..expected + 5).contains(&gap), "{gap} for {expected}");
    }
    manager.wait_idle().await;
    let metadata = manager.get_subsystem_metadata(id).unwrap();
    assert_eq!((metadata.state, metadata.restart_count), (SubsystemState::Failed, 5));
    assert!(metadata.last_error.unwrap().contains("no"));
    assert_eq!(manager.get_stats().total_restarts, 5);
}

#[tokio::test(start_paused = true)]
async fn defect_3_a_panic_is_a_failure_and_a_quick_end_is_seen() {
    let manager = SubsystemManager::default();
    manager.register_fn("panics", |_| async { panic!("boom {}", 7) });
    manager.register_closure(|_| panic!("at once"), "panics outside of its future");
    manager.register_fn("quick", |_| async { Ok(()) });
    manager.register_fn("good", until_asked);
    manager.start_all().await.unwrap();
    until("three have ended", || manager.get_stats().running_subsystems == 1).await;
    let metadata = manager.get_all_metadata();
    assert_eq!(metadata[0].last_error.as_deref(), Some("panicked: boom 7"));
    assert_eq!(metadata[1].last_error.as_deref(), Some("panicked: at once"));
    use SubsystemState::{Failed, Running, Stopped};
    assert_eq!(states(&manager), [Failed, Failed, Stopped, Running]);
}

#[tokio::test(start_paused = true)]
async fn defect_4_a_clean_up_may_take_the_graceful_time() {
    let manager = SubsystemManager::default();
    let cleaned = Arc::new(AtomicBool::new(false));
    let done = Arc::clone(&cleaned);
    manager.register_fn("slow", move |mut shutdown| {
        let done = Arc::clone(&done);
        async move {
            shutdown.cancelled().await;
            pass(MS * 3000).await;
            done.store(true, Ordering::SeqCst);
            Ok(())
        }
    });
    manager.start_all().await.unwrap();
    let begun = Instant::now();
    manager.stop_all().await.unwrap();
    assert!(cleaned.load(Ordering::SeqCst));
    assert!((MS * 3000..MS * 3010).contains(&begun.elapsed()));
    assert_eq!(states(&manager), [SubsystemState::Stopped]);
}

#[tokio::test(start_paused = true)]
async fn defect_5_the_phases_are_absolute_and_carried_out() {
    let coordinator = ShutdownCoordinator::new(1000, 2000, 3000);
    let manager = SubsystemManager::new(coordinator.clone());
    let (sender, mut forced) = mpsc::unbounded_channel();
    manager.register_fn("deaf", move |mut shutdown| {
        let sender = sender.clone();
        async move {
            shutdown.forced().await;
            sender.send((shutdown.is_forced(), shutdown.time_remaining())).unwrap();
            std::future::pending().await
        }
    });
    manager.start_all().await.unwrap();
    let begun = Instant::now();
    coordinator.initiate_shutdown(ShutdownReason::Requested);
    assert_eq!(forced.recv().await, Some((true, None)));
    assert_eq!(begun.elapsed().as_millis() / 10, 100);
    manager.wait_idle().await;
    assert_eq!(begun.elapsed().as_millis() / 10, 200);
    let metadata = manager.get_all_metadata();
    assert_eq!(metadata[0].state, SubsystemState::Failed);
    assert!(metadata[0].last_error.as_deref().unwrap().starts_with("aborted"));
}

#[tokio::test(start_paused = true)]
async fn defect_6_one_can_be_stopped_and_a_restart_never_doubles_it() {
    let manager = SubsystemManager::default();
    let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (count, peak) = (Arc::clone(&running), Arc::clone(&most));
    let id = manager.register_fn("one", move |mut shutdown| {
        let (count, peak) = (Arc::clone(&count), Arc::clone(&peak));
        async move {
            let now = count.fetch_add(1, Ordering::SeqCst) + 1;
            peak.fetch_max(now, Ordering::SeqCst);
            shutdown.cancelled().await;
            pass(MS * 100).await;
            count.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
    });
    let other = manager.register_fn("other", until_asked);
    manager.start_all().await.unwrap();
    manager.restart_subsystem(id).await.unwrap();
    manager.start_subsystem(id).await.unwrap();
    until("it runs again", || running.load(Ordering::SeqCst) == 1).await;
    assert_eq!(most.load(Ordering::SeqCst), 1);
    assert_eq!(manager.get_subsystem_metadata(id).unwrap().restart_count, 1);
    manager.stop_subsystem(id).await.unwrap();
    assert_eq!(states(&manager), [SubsystemState::Stopped, SubsystemState::Running]);
    assert_eq!(manager.get_subsystem_metadata(other).unwrap().restart_count, 0);
    manager.start_subsystem(id).await.unwrap();
    assert_eq!(states(&manager), [SubsystemState::Running, SubsystemState::Running]);
}

#[tokio::test(start_paused = true)]
async fn defect_7_a_clone_is_the_same_manager() {
    let manager = SubsystemManager::default();
    manager.register_fn("a", until_asked);
    let clone = manager.clone();
    clone.start_all().await.unwrap();
    assert_eq!(clone.get_stats().running_subsystems, 1);
    assert_eq!(manager.get_stats().running_subsystems, 1);
}

#[tokio::test(start_paused = true)]
async fn bad_health_is_acted_on_and_with_never_only_reported() {
    let manager = SubsystemManager::default();
    manager.set_health_checks(Some(MS * 5000), 3);
    let healthy = Arc::new(AtomicBool::new(true));
    let make = |name, policy| {
        let mut part = Part::new(name, until_asked).policy(policy);
        part.healthy = Some(Arc::clone(&healthy));
        part
    };
    let failing = manager.register(make("failing", RestartPolicy::OnFailure));
    let never = manager.register(make("never", RestartPolicy::Never));
    manager.start_all().await.unwrap();
    healthy.store(false, Ordering::SeqCst);
    let begun = Instant::now();
    let restarts = |id| manager.get_subsystem_metadata(id).unwrap().restart_count;
    until("a restart", || restarts(failing) == 1).await;
    assert_eq!(begun.elapsed().as_secs(), 15, "three checks");
    assert_eq!(manager.get_subsystem_metadata(never).unwrap().state, SubsystemState::Running);
    let answers = manager.run_health_checks();
    assert_eq!(answers[1], (never, "never".to_owned(), false));
    let error = manager.get_subsystem_metadata(failing).unwrap().last_error.unwrap();
    assert_eq!(error, "unhealthy: 3 health checks in a row failed");
}

/// A subsystem that counts how often it is asked for its check.
struct Counted(Arc<AtomicU32>);

impl Subsystem for Counted {
    fn run(&self, shutdown: ShutdownHandle) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        Box::pin(until_asked(shutdown))
    }

    fn name(&self) -> &str {
        "counted"
    }

    fn health_check(&self) -> Option<Box<dyn Fn() -> bool + Send + Sync>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Some(Box::new(|| true))
    }
}

#[tokio::test(start_paused = true)]
async fn defect_19_a_health_check_is_made_once_and_asked_often() {
    let manager = SubsystemManager::default();
    manager.set_health_checks(Some(MS * 10), 3);
    let made = Arc::new(AtomicU32::new(0));
    manager.register(Counted(Arc::clone(&made)));
    manager.start_all().await.unwrap();
    pass(MS * 500).await;
    for _ in 0..10 {
        assert!(manager.run_health_checks()[0].2);
    }
    assert_eq!(made.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_life_is_seen_once_each_in_order() {
    let coordinator = ShutdownCoordinator::new(1000, 2000, 3000);
    let manager = SubsystemManager::new(coordinator.clone());
    assert!(manager.try_next_event().is_none());
    manager.enable_events();
    let id = manager.register_fn("life", until_asked);
    manager.start_all().await.unwrap();
    coordinator.initiate_shutdown(ShutdownReason::Requested);
    manager.wait_idle().await;
    manager.stop_all().await.unwrap();
    let mut seen = Vec::new();
    while let Some(SubsystemEvent::StateChanged { id: from, name, state, at: _ }) =
        manager.try_next_event()
    {
        assert_eq!((from, name.as_str()), (id, "life"));
        seen.push(state.to_string());
    }
    assert_eq!(seen, ["Starting", "Running", "Stopping", "Stopped"]);
}

#[cfg(feature = "lockfree-coordination")]
#[tokio::test(start_paused = true)]
async fn receivers_of_events_share_one_queue() {
    use proc_daemon::coord::chan;

    let manager = SubsystemManager::default();
    assert!(manager.subscribe_events().is_none());
    manager.enable_events();
    let events = manager.subscribe_events().unwrap();
    manager.register_fn("a", until_asked);
    manager.start_all().await.unwrap();
    let SubsystemEvent::StateChanged { state, .. } = chan::try_recv(&events).unwrap();
    assert_eq!(state, SubsystemState::Starting);
    let SubsystemEvent::StateChanged { state, .. } = manager.try_next_event().unwrap();
    assert_eq!(state, SubsystemState::Running);
    assert_eq!(chan::try_recv(&events).unwrap_err(), chan::TryRecvError::Empty);
}

#[tokio::test(start_paused = true)]
async fn nested_and_depending_subsystems_end_in_order() {
    let coordinator = ShutdownCoordinator::new(5000, 10_000, 15_000);
    let manager = SubsystemManager::new(coordinator.clone());
    let (sender, mut ends) = mpsc::unbounded_channel();
    let noting = move |name: &'static str| {
        let sender = sender.clone();
        move |mut shutdown: ShutdownHandle| {
            let sender = sender.clone();
            async move {
                shutdown.cancelled().await;
                sender.send(name).unwrap();
                Ok(())
            }
        }
    };
    manager.register(Part::new("web", noting("web")).needs("store"));
    manager.register(Part::new("store", noting("store")));
    let (nest, inside) = (manager.clone(), noting.clone());
    let server = noting("server");
    let server = move |shutdown: ShutdownHandle| {
        let (nest, inside, server) = (nest.clone(), inside.clone(), server.clone());
        async move {
            let within = nest.nested(&shutdown)?;
            within.register_fn("connection", inside("connection"));
            within.start_all().await?;
            assert_eq!(within.get_stats().running_subsystems, 1);
            server(shutdown).await
        }
    };
    manager.register(Part::new("server", server).needs("web"));
    manager.start_all().await.unwrap();
    until("all run", || manager.get_stats().running_subsystems == 4).await;
    coordinator.initiate_shutdown(ShutdownReason::Signal(15));
    manager.wait_idle().await;
    let mut order = Vec::new();
    while let Ok(name) = ends.try_recv() {
        order.push(name);
    }
    assert_eq!(order, ["connection", "server", "web", "store"]);
}

#[tokio::test(start_paused = true)]
async fn a_nested_one_that_ignores_the_signal_is_named_with_its_path_and_never_hangs() {
    let coordinator = ShutdownCoordinator::new(1000, 2000, 3000);
    let manager = SubsystemManager::new(coordinator.clone());
    let nest = manager.clone();
    manager.register_fn("server", move |mut shutdown| {
        let nest = nest.clone();
        async move {
            let within = nest.nested(&shutdown)?;
            within.register_fn("deaf", |_| std::future::pending());
            within.register_fn("panics", |_| async { panic!("boom") });
            within.start_all().await?;
            shutdown.cancelled().await;
            Ok(())
        }
    });
    manager.start_all().await.unwrap();
    until("both run", || manager.unfinished().len() == 2).await;
    assert_eq!(manager.unfinished(), ["server", "server/deaf"]);
    coordinator.initiate_shutdown(ShutdownReason::Requested);
    manager.wait_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_outer_one_ends_and_renews_those_inside() {
    let manager = SubsystemManager::default();
    let nest = manager.clone();
    let (sender, mut tokens) = mpsc::unbounded_channel();
    let outer = manager.register_fn("outer", move |shutdown| {
        let (nest, sender) = (nest.clone(), sender.clone());
        async move {
            let within = nest.nested(&shutdown)?;
            sender.send(within.register_fn("inner", until_asked)).unwrap();
            within.start_all().await?;
            until_asked(shutdown).await
        }
    });
    manager.start_all().await.unwrap();
    let first = tokens.recv().await.unwrap();
    manager.restart_subsystem(outer).await.unwrap();
    let second = tokens.recv().await.unwrap();
    assert_ne!(first, second);
    assert!(manager.get_subsystem_metadata(first).is_none());
    until("two run", || manager.get_stats().running_subsystems == 2).await;
    manager.stop_all().await.unwrap();
    assert_eq!(states(&manager), [SubsystemState::Stopped, SubsystemState::Stopped]);
}

#[tokio::test]
async fn errors_say_what_is_wrong() {
    use proc_daemon::ErrorCode;

    let coordinator = ShutdownCoordinator::new(1, 2, 3);
    let manager = SubsystemManager::new(coordinator.clone());
    let error = manager.start_subsystem(7).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::SubsystemNotFound);
    let lonely = manager.register(Part::new("lonely", until_asked).needs("nobody"));
    let error = manager.start_all().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::SubsystemStartFailed);
    assert!(error.to_string().contains("\"nobody\", which is not registered"), "{error}");
    manager.remove_subsystem(lonely).unwrap();
    manager.register(Part::new("circle", until_asked).needs("circle"));
    let error = manager.start_all().await.unwrap_err();
    assert!(error.to_string().contains("it depends on itself"), "{error}");
    assert!(manager.nested(&coordinator.create_handle("none")).is_err());
    coordinator.initiate_shutdown(ShutdownReason::Requested);
    let late = manager.register_fn("late", until_asked);
    let error = manager.start_subsystem(late).await.unwrap_err();
    assert!(error.to_string().contains("a shutdown has begun"), "{error}");
}

#[test]
fn outside_of_a_runtime_a_start_is_an_error_and_a_lost_runtime_is_no_loop() {
    let manager = SubsystemManager::default();
    let id = manager.register(Part::new("a", until_asked).policy(RestartPolicy::Always));
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    {
        let runtime = runtime();
        runtime.block_on(manager.start_all()).unwrap();
    }
    let metadata = manager.get_subsystem_metadata(id).unwrap();
    assert_eq!(metadata.state, SubsystemState::Failed);
    assert_eq!(metadata.last_error.as_deref(), Some("aborted: its runtime has gone"));
    let second = runtime();
    second.block_on(async {
        manager.start_all().await.unwrap();
        assert_eq!(states(&manager), [SubsystemState::Running]);
        manager.stop_all().await.unwrap();
    });
    assert_eq!(states(&manager), [SubsystemState::Stopped]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn defect_18_a_hundred_thousand_start_and_stop() {
    let manager = SubsystemManager::default();
    for _ in 0..100_000 {
        manager.register_fn("many", until_asked);
    }
    let begun = std::time::Instant::now();
    manager.start_all().await.unwrap();
    let started = begun.elapsed();
    assert_eq!(manager.get_stats().running_subsystems, 100_000);
    let begun = std::time::Instant::now();
    manager.stop_all().await.unwrap();
    println!("start {started:?}, stop {:?}", begun.elapsed());
    let stats = manager.get_stats();
    assert!(stats.subsystems.iter().all(|one| one.state == SubsystemState::Stopped));
    assert_eq!(stats.subsystems[99_999].id, 100_000);
}
