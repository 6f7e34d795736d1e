//! A service for tests of whatever shows services.

use std::sync::Arc;
use std::time::Duration;

use keepd_engine::manager::{Cause, LastEnd, ServiceStatus};
use keepd_model::{
    CommandLine, Edge, Exit, Generation, Health, Instant, Pid, Reason, ServiceName, ServiceSpec,
    Signal, State, Until, Wanted,
};

pub(crate) fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}

/// The fifth run of web was killed five seconds after its start; it comes back soon.
pub(crate) fn status() -> ServiceStatus {
    let name = ServiceName::new("web").unwrap();
    let mut spec = ServiceSpec::new(name, CommandLine::Words(Vec::new()));
    for on in ["db", "migrate"] {
        let until = Until::Ready;
        spec.depends_on.insert(ServiceName::new(on).unwrap(), Edge::until(until));
    }
    let exit = Exit::Signal { signal: Signal::KILL, core: false };
    let (generation, pid) = (Generation::new(5), Pid::new(4920));
    let ran = Duration::from_millis(12_400);
    ServiceStatus {
        spec: Arc::new(spec),
        wanted: Wanted::Up,
        state: State::Backoff,
        cause: Cause::Ended { generation, pid, exit, ran },
        start_cause: Cause::RestartPolicy,
        since: at(100),
        health: Health::None,
        pid: None,
        generation,
        invocation: Some(0x4f0c),
        started: None,
        ready_after: None,
        restarts: 4,
        restart_times: Vec::new(),
        hopeless: None,
        next_start: Some(at(107)),
        last_end: Some(LastEnd {
            generation,
            pid,
            at: at(100),
            exit: Some(exit),
            reason: Reason::Signal,
            ran,
            failure: None,
        }),
        waits_for: Vec::new(),
        status_text: None,
        config_changed: false,
        output_blocked: None,
    }
}
