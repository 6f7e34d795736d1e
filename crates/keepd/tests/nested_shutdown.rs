//! Shutdown of subsystems inside subsystems: the order, the deadlines, force, panics and names, as
//! a program with a daemon sees them. The clock is paused, so every time is exact.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keepd::subsystem::{SubsystemManager, SubsystemMetadata, SubsystemState};
use keepd::{
    Config, Daemon, Error, ErrorCode, RestartPolicy, Result, ShutdownHandle, ShutdownReason,
    Subsystem,
};
use tokio::time::{Instant, timeout};

const LONG: Duration = Duration::from_secs(3600);

/// Lets so much time pass on the paused clock.
async fn pass(duration: Duration) {
    let _ = timeout(duration, std::future::pending::<()>()).await;
}

type Body =
    Arc<dyn Fn(ShutdownHandle) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send + Sync>;

/// A subsystem with everything that a test sets.
#[derive(Clone)]
struct Part {
    name: &'static str,
    body: Body,
    policy: RestartPolicy,
    needs: Vec<&'static str>,
    stop_timeout: Option<Duration>,
    critical: bool,
}

impl Part {
    fn new<F, Fut>(name: &'static str, body: F) -> Self
    where
        F: Fn(ShutdownHandle) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let body: Body = Arc::new(move |shutdown| Box::pin(body(shutdown)));
        Self {
            name,
            body,
            policy: RestartPolicy::Never,
            needs: Vec::new(),
            stop_timeout: None,
            critical: false,
        }
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

    fn depends_on(&self) -> &[&str] {
        &self.needs
    }

    fn stop_timeout(&self) -> Option<Duration> {
        self.stop_timeout
    }

    fn critical(&self) -> bool {
        self.critical
    }
}

/// What happened, in order, with the time since the shutdown was asked for.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<(&'static str, u128)>>>);

impl Diary {
    fn note(&self, name: &'static str, shutdown: &ShutdownHandle) {
        let since = shutdown
            .shutdown_time()
            .map_or(0, |at| Instant::now().into_std().saturating_duration_since(at).as_millis());
        self.0.lock().unwrap().push((name, since / 10 * 10));
    }

    fn taken(&self) -> Vec<(&'static str, u128)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// A subsystem that notes when it is asked, and then takes its time.
    fn part(&self, name: &'static str, clean_up: Duration) -> Part {
        let diary = self.clone();
        Part::new(name, move |mut shutdown| {
            let diary = diary.clone();
            async move {
                shutdown.cancelled().await;
                diary.note(name, &shutdown);
                pass(clean_up).await;
                Ok(())
            }
        })
    }
}

fn deaf(name: &'static str) -> Part {
    Part::new(name, |_| std::future::pending())
}

/// A subsystem with others inside it.
fn outer(manager: &SubsystemManager, diary: &Diary, name: &'static str, inside: Vec<Part>) -> Part {
    let (manager, own) = (manager.clone(), diary.part(name, Duration::ZERO));
    Part::new(name, move |shutdown| {
        let (manager, own, inside) = (manager.clone(), own.clone(), inside.clone());
        async move {
            let nest = manager.nested(&shutdown)?;
            for part in inside {
                nest.register(part);
            }
            nest.start_all().await?;
            own.run(shutdown).await
        }
    })
}

/// Builds a daemon out of what `make` registers; 1 s graceful, 2 s force, 3 s kill.
fn daemon(make: impl FnOnce(&SubsystemManager) + Send + 'static) -> Daemon {
    let times = [1, 2, 3].map(Duration::from_secs);
    let config = Config::builder().timeouts(times[0], times[1], times[2]).build().unwrap();
    let builder = Daemon::builder(config).without_signals();
    let registered = builder.with_subsystem_fn("all", move |manager| {
        make(manager);
        0
    });
    registered.build().unwrap()
}

fn all(daemon: &Daemon) -> Vec<SubsystemMetadata> {
    daemon.get_stats().subsystem_stats.subsystems
}

fn one(daemon: &Daemon, name: &str) -> SubsystemMetadata {
    all(daemon).into_iter().find(|one| one.name == name).unwrap_or_else(|| panic!("no {name}"))
}

/// Starts a daemon and waits until so many run.
async fn started(daemon: &Daemon, count: usize) -> keepd::daemon::DaemonHandle {
    let handle = daemon.clone().start().unwrap();
    let running = async {
        while daemon.get_stats().subsystem_stats.running_subsystems < count {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, running).await.expect("all run");
    handle
}

#[tokio::test(start_paused = true)]
async fn three_levels_end_from_the_inside_out_and_in_the_order_of_their_needs() {
    let diary = Diary::default();
    let notes = diary.clone();
    let ms = Duration::from_millis;
    let daemon = daemon(move |manager| {
        let mut reader = notes.part("reader", ms(100));
        reader.needs = vec!["socket"];
        let session = outer(manager, &notes, "session", vec![reader, notes.part("socket", ms(50))]);
        let mut server = outer(manager, &notes, "server", vec![session]);
        server.needs = vec!["store"];
        manager.register(notes.part("store", ms(0)));
        manager.register(server);
    });
    let handle = started(&daemon, 5).await;
    handle.shutdown();
    handle.wait().await.unwrap();
    let expected = [("reader", 0), ("socket", 100), ("session", 150), ("server", 150)];
    assert_eq!(diary.taken(), [&expected[..], &[("store", 150)]].concat());
    assert!(all(&daemon).iter().all(|one| one.state == SubsystemState::Stopped));
}

#[tokio::test(start_paused = true)]
async fn one_deadline_of_its_own_ends_one_and_gives_the_rest_their_time() {
    let diary = Diary::default();
    let notes = diary.clone();
    let daemon = daemon(move |manager| {
        let mut impatient = deaf("impatient");
        impatient.stop_timeout = Some(Duration::from_millis(300));
        let tidy = notes.part("tidy", Duration::from_millis(600));
        manager.register(outer(manager, &notes, "server", vec![impatient, tidy]));
    });
    let handle = started(&daemon, 3).await;
    let begun = Instant::now();
    handle.shutdown();
    let error = handle.wait().await.unwrap_err();
    assert_eq!(begun.elapsed().as_millis() / 10, 60, "the deaf one ended at 300 ms");
    assert_eq!(diary.taken(), [("tidy", 0), ("server", 600)]);
    assert_eq!(error.code(), ErrorCode::ShutdownTimeout);
    assert!(error.to_string().contains("server/impatient"), "{error}");
    assert!(!error.to_string().contains("tidy"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_all_names_only_those_that_ignore_the_request() {
    let diary = Diary::default();
    let notes = diary.clone();
    let daemon = daemon(move |manager| {
        let mut web = deaf("web");
        web.needs = vec!["store"];
        manager.register(notes.part("store", Duration::from_millis(200)));
        manager.register(web);
        manager.register(outer(manager, &notes, "server", vec![deaf("connection")]));
    });
    let handle = started(&daemon, 4).await;
    let begun = Instant::now();
    handle.shutdown();
    let error = handle.wait().await.unwrap_err().to_string();
    assert_eq!(begun.elapsed().as_millis() / 10, 200, "the force time");
    // The order ends with the graceful time: those that were needed clean up until the force time.
    assert_eq!(diary.taken(), [("store", 1000), ("server", 1000)]);
    assert!(error.contains("web") && error.contains("server/connection"), "{error}");
    assert!(!error.contains("store"), "{error}");
    assert_eq!(one(&daemon, "store").state, SubsystemState::Stopped);
    assert_eq!(one(&daemon, "web").state, SubsystemState::Failed);
}

#[tokio::test(start_paused = true)]
async fn force_ends_every_level_at_once() {
    let coordinator = keepd::ShutdownCoordinator::new(60_000, 120_000, 180_000);
    let manager = SubsystemManager::new(coordinator.clone());
    let diary = Diary::default();
    let session = outer(&manager, &diary, "session", vec![deaf("reader")]);
    manager.register(outer(&manager, &diary, "server", vec![session]));
    manager.start_all().await.unwrap();
    let nested = async {
        while manager.unfinished().len() < 3 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, nested).await.expect("all run");
    assert_eq!(manager.unfinished(), ["server", "server/session", "server/session/reader"]);
    coordinator.initiate_shutdown(ShutdownReason::Signal(15));
    assert!(timeout(Duration::from_secs(30), manager.wait_idle()).await.is_err(), "it waits");
    let begun = Instant::now();
    assert!(coordinator.force(), "what a second signal does");
    timeout(LONG, manager.wait_idle()).await.expect("no hang");
    assert!(begun.elapsed() < Duration::from_millis(100));
    assert!(manager.unfinished().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_with_the_reason_forced_has_no_graceful_time() {
    let diary = Diary::default();
    let coordinator = keepd::ShutdownCoordinator::new(1000, 2000, 3000);
    let manager = SubsystemManager::new(coordinator.clone());
    let mut web = deaf("web");
    web.needs = vec!["store"];
    manager.register(diary.part("store", Duration::ZERO));
    manager.register(web);
    manager.start_all().await.unwrap();
    let begun = Instant::now();
    coordinator.initiate_shutdown(ShutdownReason::Forced);
    timeout(LONG, manager.wait_idle()).await.expect("no hang");
    assert_eq!(diary.taken(), [("store", 0)]);
    assert_eq!(begun.elapsed().as_millis() / 10, 200);
}

#[tokio::test(start_paused = true)]
async fn a_panic_inside_follows_its_own_policy_and_never_that_of_the_outer_one() {
    let diary = Diary::default();
    let notes = diary.clone();
    let daemon = daemon(move |manager| {
        let panics = |name, policy| {
            let mut part = Part::new(name, |_| async { panic!("lost") });
            part.policy = policy;
            part
        };
        let attempts = RestartPolicy::ExponentialBackoff {
            initial_delay: Duration::from_millis(10),
            max_delay: Duration::from_millis(10),
            max_attempts: 2,
        };
        let inside = vec![
            panics("never", RestartPolicy::Never),
            panics("thrice", attempts),
            notes.part("good", Duration::ZERO),
        ];
        manager.register(outer(manager, &notes, "server", inside));
    });
    let handle = started(&daemon, 1).await;
    let given_up = async {
        while daemon.get_stats().subsystem_stats.failed_subsystems < 2 {
            pass(Duration::from_millis(1)).await;
        }
    };
    timeout(LONG, given_up).await.expect("both are given up");
    for (name, restarts) in [("never", 0), ("thrice", 2)] {
        let one = one(&daemon, name);
        assert_eq!((one.restart_count, one.state), (restarts, SubsystemState::Failed));
        assert_eq!(one.last_error.as_deref(), Some("panicked: lost"));
    }
    let server = one(&daemon, "server");
    assert_eq!((server.state, server.restart_count), (SubsystemState::Running, 0));
    assert_eq!(one(&daemon, "good").state, SubsystemState::Running);
    handle.shutdown();
    handle.wait().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_clean_up_is_a_failure_and_no_hang() {
    let diary = Diary::default();
    let notes = diary.clone();
    let daemon = daemon(move |manager| {
        let breaks = Part::new("breaks", |mut shutdown| async move {
            shutdown.cancelled().await;
            panic!("while cleaning up")
        });
        manager.register(outer(manager, &notes, "server", vec![breaks]));
    });
    let handle = started(&daemon, 2).await;
    handle.shutdown();
    timeout(LONG, handle.wait()).await.expect("no hang").unwrap();
    assert_eq!(diary.taken(), [("server", 0)]);
    let breaks = one(&daemon, "breaks");
    assert_eq!(breaks.state, SubsystemState::Failed);
    assert_eq!(breaks.last_error.as_deref(), Some("panicked: while cleaning up"));
}

#[tokio::test(start_paused = true)]
async fn a_critical_one_inside_ends_all_in_order_and_is_the_error_of_the_run() {
    let diary = Diary::default();
    let notes = diary.clone();
    let daemon = daemon(move |manager| {
        let mut heart = Part::new("heart", |_| async {
            pass(Duration::from_millis(10)).await;
            Err(Error::runtime("stopped beating"))
        });
        heart.critical = true;
        let inside = vec![heart, notes.part("good", Duration::ZERO)];
        manager.register(outer(manager, &notes, "server", inside));
    });
    let error = timeout(LONG, daemon.clone().run()).await.expect("it ends").unwrap_err();
    assert!(error.to_string().contains("'heart'"), "{error}");
    assert!(error.to_string().contains("stopped beating"), "{error}");
    assert_eq!(diary.taken(), [("good", 0), ("server", 0)]);
    assert_eq!(daemon.get_stats().shutdown_reason, Some(ShutdownReason::Error));
}
