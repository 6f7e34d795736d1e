//! Random plans, random edits of them, and what the processes of a service are like.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use keepd_model::backoff::Backoff;
use keepd_model::{
    CommandLine, Edge, EnvFile, ExitWhen, ExpectedEnd, HttpProbe, KillMode, Kind, OnStop, Plan,
    Probe, Reload, RestartLimit, RestartPolicy, ServiceName, ServiceSpec, ShutdownOn, Signal,
    TcpProbe, Template, Until,
};

use crate::random::Random;

/// The most services of a plan.
const SERVICES_MAX: u64 = 12;

/// What the processes of one service are like: chances in percent.
#[derive(Clone, Debug)]
pub(crate) struct Temper {
    pub(crate) cannot_prepare: u64,
    pub(crate) cannot_clone: u64,
    pub(crate) cannot_execute: u64,
    /// The main process ends by itself (a oneshot: with a failure).
    pub(crate) ends: u64,
    pub(crate) ends_at_once: u64,
    pub(crate) never_ready: u64,
    pub(crate) ignores_stop: u64,
    pub(crate) leaves_others: u64,
    pub(crate) sleeps_in_kernel: u64,
}

impl Temper {
    /// Returns what a service is like during the nuisances.
    pub(crate) fn random(random: &mut Random) -> Self {
        let mut some = |often: u64, percent: u64| if random.chance(often) { percent } else { 0 };
        Self {
            cannot_prepare: some(15, 30),
            cannot_clone: some(20, 20),
            cannot_execute: some(15, 30),
            ends: some(50, 50),
            ends_at_once: some(20, 50),
            never_ready: some(20, 40),
            ignores_stop: some(30, 50),
            leaves_others: some(40, 60),
            sleeps_in_kernel: some(5, 20),
        }
    }

    /// Returns what it is like once the faults stopped. Some services go on failing: they are
    /// broken, not unlucky.
    pub(crate) fn calm(random: &mut Random) -> Self {
        let broken = random.chance(10);
        Self {
            cannot_prepare: 0,
            cannot_clone: 0,
            cannot_execute: if broken { 100 } else { 0 },
            ends: 0,
            ends_at_once: 0,
            never_ready: 0,
            ignores_stop: 0,
            leaves_others: 20,
            sleeps_in_kernel: 0,
        }
    }
}

/// Returns a plan. Edges go from later to earlier names, so there is no cycle.
pub(crate) fn plan(random: &mut Random) -> Plan {
    let mut plan = Plan::default();
    for number in 0..random.between(1, SERVICES_MAX) {
        let spec = service(random, number, &plan);
        plan.services.insert(spec.name.clone(), Arc::new(spec));
    }
    plan.manager.shutdown_timeout = Duration::from_secs(20);
    plan.manager.exit_when = if random.chance(4) { ExitWhen::Idle } else { ExitWhen::Never };
    plan
}

fn name(number: u64) -> ServiceName {
    // Two digits, so that the order of names is the order of numbers.
    ServiceName::new(&format!("s{number:02}")).expect("a letter and two digits are a name")
}

fn service(random: &mut Random, number: u64, earlier: &Plan) -> ServiceSpec {
    if random.chance(8) {
        let mut group = ServiceSpec::group(name(number));
        group.enabled = random.chance(85);
        edges(random, &mut group, earlier);
        for edge in group.depends_on.values_mut() {
            *edge = Edge::until(edge.until);
        }
        return group;
    }
    let command = CommandLine::Words(vec![Template::literal("/bin/service")]);
    let mut spec = ServiceSpec::new(name(number), command);
    spec.enabled = random.chance(85);
    if random.chance(25) {
        spec.kind = Kind::Oneshot;
        spec.restart = random.weighted(&[
            (6, RestartPolicy::Never),
            (2, RestartPolicy::OnFailure),
            (1, RestartPolicy::Always),
        ]);
    } else {
        spec.restart = policy(random);
    }
    // The same for every service of this name, whenever it comes: what is done stays done.
    if number.is_multiple_of(5) {
        spec.exit_ok.push(ExpectedEnd::Signal(Signal::TERM));
    }
    spec.stop.signal = random.pick(&[Signal::TERM, Signal::INT]);
    spec.stop.timeout = random.pick(&[0, 100, 500, 3_000].map(Duration::from_millis));
    spec.stop.kill_mode =
        random.weighted(&[(6, KillMode::Mixed), (3, KillMode::All), (2, KillMode::Main)]);
    if random.chance(30) {
        let command = CommandLine::Words(vec![Template::literal("/bin/reload")]);
        spec.reload = Some(match random.chance(50) {
            true => Reload::Signal(Signal::HUP),
            false => Reload::Command(command),
        });
    }
    if random.chance(25) {
        let window = random.millis(2_000, 20_000);
        spec.restart_limit = RestartLimit { count: random.pick(&[1, 2, 4]), window };
    }
    spec.shutdown_on = random.weighted(&[
        (96, ShutdownOn::Never),
        (2, ShutdownOn::Failure),
        (2, ShutdownOn::Exit),
    ]);
    spec.backoff = backoff(random);
    readiness(random, &mut spec);
    edges(random, &mut spec, earlier);
    spec
}

fn policy(random: &mut Random) -> RestartPolicy {
    random.weighted(&[
        (6, RestartPolicy::Always),
        (2, RestartPolicy::OnFailure),
        (2, RestartPolicy::Never),
    ])
}

fn backoff(random: &mut Random) -> Backoff {
    Backoff {
        initial: random.millis(100, 1_000),
        max: random.millis(1_000, 8_000),
        factor: random.pick(&[1.0, 1.5, 2.0]),
        jitter: random.pick(&[0.0, 0.2, 1.0]),
        reset: random.millis(500, 20_000),
    }
}

fn readiness(random: &mut Random, spec: &mut ServiceSpec) {
    let ready = &mut spec.ready;
    ready.delay = random.pick(&[0, 0, 200, 1_000].map(Duration::from_millis));
    ready.interval = random.pick(&[250, 500, 1_000].map(Duration::from_millis));
    ready.timeout =
        random.pick(&[None, Some(2), Some(5), Some(10)].map(|s| s.map(Duration::from_secs)));
    if spec.kind == Kind::Oneshot {
        return;
    }
    ready.notify = random.chance(20);
    // The processes of the world say it in one way only.
    ready.fd = (!ready.notify && random.chance(10)).then_some(7);
    if random.chance(30) {
        let address = Template::literal("127.0.0.1:1");
        ready.probes.push(Probe::Tcp(TcpProbe { address }));
    }
    if random.chance(10) {
        let url = Template::literal("http://127.0.0.1:1/");
        ready.probes.push(Probe::Http(HttpProbe { url }));
    }
    if random.chance(20) {
        let command = CommandLine::Words(vec![Template::literal("/bin/probe")]);
        ready.probes.push(Probe::Exec(command));
    }
}

fn edges(random: &mut Random, spec: &mut ServiceSpec, earlier: &Plan) {
    spec.depends_on.clear();
    spec.after.clear();
    spec.before.clear();
    for other in earlier.services.values() {
        // Order, too, goes from later to earlier names.
        match other.name.cmp(&spec.name) {
            Ordering::Less if random.chance(8) => _ = spec.after.insert(other.name.clone()),
            Ordering::Greater if random.chance(8) => _ = spec.before.insert(other.name.clone()),
            Ordering::Less | Ordering::Equal | Ordering::Greater => {}
        }
        if other.name < spec.name && random.chance(25) {
            let until = match other.kind {
                Kind::Daemon | Kind::Group => {
                    random.weighted(&[(7, Until::Ready), (2, Until::Started)])
                }
                Kind::Oneshot => {
                    random.weighted(&[(7, Until::Done), (2, Until::Exited), (1, Until::Started)])
                }
            };
            let required = random.chance(80);
            let on_stop =
                random.weighted(&[(7, OnStop::Ignore), (2, OnStop::Restart), (1, OnStop::Stop)]);
            spec.depends_on.insert(other.name.clone(), Edge { until, required, on_stop });
        }
    }
}

/// Returns the plan after a random edit of a few services.
pub(crate) fn edited(random: &mut Random, plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    for _ in 0..random.between(1, 3) {
        let number = random.between(0, SERVICES_MAX - 1);
        let Some(known) = plan.services.get(&name(number)) else {
            let spec = service(random, number, &plan);
            plan.services.insert(spec.name.clone(), Arc::new(spec));
            continue;
        };
        if random.chance(15) {
            remove(&mut plan, number);
            continue;
        }
        let mut spec = (**known).clone();
        edit(random, &mut spec, &plan);
        plan.services.insert(spec.name.clone(), Arc::new(spec));
    }
    plan
}

fn remove(plan: &mut Plan, number: u64) {
    plan.services.remove(&name(number));
    let gone = name(number);
    for spec in plan.services.values_mut() {
        let names = [&spec.after, &spec.before];
        let is_named = names.into_iter().any(|names| names.contains(&gone));
        if is_named || spec.depends_on.contains_key(&gone) {
            let spec = Arc::make_mut(spec);
            spec.depends_on.remove(&gone);
            spec.after.remove(&gone);
            spec.before.remove(&gone);
        }
    }
}

/// Changes one key: some need a restart, some take effect at once, some at the next start.
fn edit(random: &mut Random, spec: &mut ServiceSpec, plan: &Plan) {
    if spec.kind == Kind::Group {
        spec.enabled = !spec.enabled;
        return;
    }
    match random.between(0, 9) {
        0..=2 => spec.umask ^= 0o007,
        3 => spec.enabled = !spec.enabled,
        4 => spec.description.push('x'),
        5 => edges(random, spec, plan),
        6 => spec.stop.timeout = random.millis(0, 2_000),
        7 => spec.restart = policy(random),
        8 => spec.backoff = backoff(random),
        _ => spec.env_files.push(EnvFile { path: Template::literal("/etc/extra"), optional: true }),
    }
}
