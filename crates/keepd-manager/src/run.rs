//! The start of the manager, in an order in which control is there first.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use keepd_engine::manager::{Manager, Settings};
use keepd_model::{Errno, ExitCode, Plan, ServiceName};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::Options;
use crate::accepted::{Accepted, AcceptedError};
use crate::api::{Api, History, serve};
use crate::calls::{CALLS_MAX, Caller, Pulse};
use crate::config::{Candidate, Configuration, LoadError, load};
use crate::console::{Console, Outputs};
use crate::log_places::LogPlaces;
use crate::own_log;
use crate::prepare::{Pool, inherited};
use crate::shell::{Home, LogLevel, Patience, Shell, Wires};

/// How long a socket may belong to a predecessor that is just ending.
const BIND_LIMIT: Duration = Duration::from_secs(5);

/// Between two attempts.
const BIND_INTERVAL: Duration = Duration::from_millis(10);

/// The most threads for what may block: a few that work, the rest for those that hang.
const BLOCKING_THREADS_MAX: usize = 64;

/// An idle thread ends soon: a manager with nothing to do shall cost nothing.
const BLOCKING_THREAD_KEPT: Duration = Duration::from_secs(1);

/// How many results of preparations and probes wait for the machine.
const RESULTS_MAX: usize = 1_024;

/// Why the manager cannot start.
#[derive(Debug)]
pub(crate) enum StartError {
    Runtime(io::Error),
    Bind(String, Errno),
    Listen(io::Error),
    Accepted(AcceptedError),
    Load(LoadError),
    Console(io::Error),
    Random(Errno),
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => write!(formatter, "cannot start the manager: {error}"),
            Self::Bind(path, errno) => {
                write!(formatter, "cannot listen on socket \"{path}\": {errno}")
            }
            Self::Listen(error) => write!(formatter, "cannot listen: {error}"),
            Self::Accepted(error) => formatter.write_str(&error.chain()),
            Self::Load(error) => write!(formatter, "{error}"),
            Self::Console(error) => write!(formatter, "cannot start the console: {error}"),
            Self::Random(errno) => write!(formatter, "cannot get random numbers: {errno}"),
        }
    }
}

/// Runs the manager until everything is stopped; returns the exit code, which the proxy has been
/// told, too.
///
/// 111 means that the manager could not start, or lost the proxy and everybody who would start it
/// again.
pub fn run(options: Options) -> u8 {
    match try_run(options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("keepd: {error}");
            ExitCode::System.get()
        }
    }
}

fn try_run(options: Options) -> Result<u8, StartError> {
    // Threads come and go with what may block, and would leave a heap each.
    keepd_os::heap::share_one();
    // Plans and answers about every service are large and rare.
    keepd_os::heap::give_back_large();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_keep_alive(BLOCKING_THREAD_KEPT)
        .build()
        .map_err(StartError::Runtime)?;
    let outputs = Outputs::standard(&options.instance.own_log_file());
    let code = runtime.block_on(manage(options, outputs));
    // A thread that hangs in a file system must not keep the process.
    runtime.shutdown_background();
    code
}

/// Runs the manager on a runtime that is there.
pub(crate) async fn manage(options: Options, outputs: Outputs) -> Result<u8, StartError> {
    let listener = listen(&options).await?;
    let accepted_file = options.instance.accepted_file();
    let accepted = Accepted::read(&accepted_file).map_err(StartError::Accepted)?;
    let Candidate { accepted, plan, .. } = load(accepted).map_err(StartError::Load)?;
    let console = Console::start(outputs, options.foreground, options.color, &plan.manager)
        .map_err(StartError::Console)?;
    let level = start_own_log(&options, &plan, &console);
    let machine = Manager::new(Settings {
        seed: keepd_os::random::seed().map_err(StartError::Random)? as u64,
        // Who stands for a machine or a user has more to do later.
        idle_by_default: options.foreground && accepted.project,
        only: only(&options, &plan),
    });

    let arguments = options.to_arguments();
    let instance = Arc::new(options.instance);
    let history = Arc::new(History::new());
    let last_good = instance.standing().map(|_| instance.last_good_file());
    for note in &accepted.notes {
        tracing::warn!("{note}");
    }
    let configuration = Arc::new(Configuration::new(accepted_file, last_good, accepted));
    let keeper = Arc::clone(&configuration);
    // Beside everything else: a slow state folder must not keep services from starting.
    tokio::spawn(async move { keeper.keep_in_force().await });
    let (calls, call_receiver) = mpsc::channel(CALLS_MAX);
    let (pulse, pulse_receiver) = watch::channel(Pulse::default());
    let (results, result_receiver) = mpsc::channel(RESULTS_MAX);
    let (stop, stop_receiver) = watch::channel(false);
    let caller = Caller::new(calls, pulse_receiver);
    let pool = Pool::new(Arc::clone(&instance), inherited());
    let logs = Arc::new(LogPlaces::new(Arc::clone(&instance)));
    let api = Api {
        caller: caller.clone(),
        configuration: Arc::clone(&configuration),
        pool: pool.clone(),
        history: Arc::clone(&history),
        group: options.group.map(Arc::new),
        logs: Arc::clone(&logs),
        stop: stop_receiver.clone(),
        instance: Arc::from(instance.name.as_str()),
    };
    let server = tokio::spawn(serve(listener, api, stop_receiver));
    let wires = Wires {
        home: Arc::new(Home {
            instance: Arc::clone(&instance),
            arguments,
            patience: Patience::PROMISED,
        }),
        pool,
        logs,
        results,
        pulse,
        history,
        configuration,
        caller,
        level,
        stop,
        server,
    };
    let shell = Shell::new(machine, console, wires);
    Ok(shell.run(plan, call_receiver, result_receiver).await)
}

/// Takes the control socket. A socket file that a killed predecessor left is replaced.
async fn listen(options: &Options) -> Result<UnixListener, StartError> {
    let path = options.instance.control_socket();
    let deadline = Instant::now() + BIND_LIMIT;
    let socket: OwnedFd = loop {
        match keepd_os::socket::listen_unix(&path, 0o600) {
            Ok(socket) => break socket,
            Err(errno) if Instant::now() >= deadline => {
                return Err(StartError::Bind(path.display().to_string(), errno));
            }
            Err(_) => tokio::time::sleep(BIND_INTERVAL).await,
        }
    };
    UnixListener::from_std(socket.into()).map_err(StartError::Listen)
}

fn start_own_log(options: &Options, plan: &Plan, console: &Console) -> LogLevel {
    let environment = std::env::var("KEEPD_LOG").ok().filter(|word| !word.is_empty());
    let fixed = options.log_level.clone().or(environment);
    let word = fixed.as_deref().unwrap_or(&plan.manager.log_level);
    let (queue, style) = console.own_lines();
    LogLevel { handle: own_log::start(queue, style, word), fixed: fixed.is_some() }
}

/// Returns the services that are wanted up at the start, if not all that are enabled.
fn only(options: &Options, plan: &Plan) -> Option<Vec<ServiceName>> {
    if options.no_start {
        return Some(Vec::new());
    }
    if options.only.is_empty() {
        return None;
    }
    let mut names = Vec::new();
    for selector in &options.only {
        match plan.select(std::slice::from_ref(selector)) {
            Ok(found) => names.extend(found),
            // `up` refused it before; it can only be that an apply removed the service since.
            Err(selector) => tracing::warn!("cannot find service \"{selector}\" any more"),
        }
    }
    Some(names)
}
