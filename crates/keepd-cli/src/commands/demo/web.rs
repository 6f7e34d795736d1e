//! `keepd demo web`: an HTTP server that says when it is ready, and ends without losing a request.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use clap::Args;
use keepd_model::ExitCode;

use super::notify::Notifier;
use super::say::{complain, say};
use super::signals::{Ending, News};
use crate::arguments::duration_value;
use crate::error::{CliError, ErrorKind};

/// Serve HTTP: / counts hits, /healthz says whether it is ready
///
/// While it warms up it answers 503. Where there is a NOTIFY_SOCKET, it says READY=1 after that.
/// Asked to end with TERM, it takes no new connections and finishes the requests it has.
#[derive(Args, Debug)]
pub(crate) struct WebOptions {
    /// Listen on this port of 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = 8080, env = "PORT")]
    port: u16,

    /// Answer 503 for this long after the start
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration_value)]
    warm_up: Duration,
}

/// How long a client may take to ask, and to take the answer.
const CLIENT_LIMIT: Duration = Duration::from_secs(2);

/// Requests at once; more are refused with 503.
const REQUESTS_MAX: u64 = 64;

/// The longest request head that is read.
const HEAD_BYTES_MAX: u64 = 16 * 1024;

/// After a connection that cannot be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listener in the set of what is waited for.
const LISTENER: u64 = 1;

/// What all requests share.
struct Site {
    warm_at: Instant,
    hits: AtomicU64,
    running: AtomicU64,
}

/// Runs the demonstration.
pub(super) fn run(options: &WebOptions) -> Result<ExitCode, CliError> {
    // Before the first thread, which would get the signal otherwise.
    let ending = Ending::new()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
    let (listener, address) = listen(address).map_err(|error| {
        CliError::because(ErrorKind::System, format!("cannot listen on {address}"), &error)
            .with_hint("keepd demo web --port PORT")
    })?;
    ending.watch(&listener, LISTENER)?;
    let site = Site {
        warm_at: Instant::now() + options.warm_up,
        hits: AtomicU64::new(0),
        running: AtomicU64::new(0),
    };
    say(format_args!("web {} listens on http://{address}/", std::process::id()));
    // The scope ends when the last request is answered.
    let signal = thread::scope(|scope| serve(scope, &ending, &listener, &site))?;
    say(format_args!("web got {signal}, answered every request and ends"));
    Ok(ExitCode::Done)
}

/// Returns a listener and its address, whose port the kernel chose if 0 was asked for.
fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    // A client that gives up between the news and the accept must not stop us.
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Accepts connections until it is asked to end.
fn serve<'scope>(
    scope: &'scope Scope<'scope, '_>,
    ending: &Ending,
    listener: &TcpListener,
    site: &'scope Site,
) -> Result<keepd_model::Signal, CliError> {
    let mut to_be_told = connect();
    loop {
        let cold = site.warm_at.saturating_duration_since(Instant::now());
        if cold.is_zero()
            && let Some(Err(error)) =
                to_be_told.take().map(|notifier| notifier.say("READY=1\nSTATUS=listening"))
        {
            complain(format_args!("web cannot tell its supervisor: {error}"));
        }
        match ending.wait(to_be_told.as_ref().map(|_| cold))? {
            News::End(signal) => return Ok(signal),
            News::Timeout => {}
            News::Readable(_) => match listener.accept() {
                Ok((stream, _)) => begin(scope, stream, site),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    complain(format_args!("web cannot accept a connection: {error}"));
                    // The client still waits, so the next look would come at once, and fail as
                    // well.
                    thread::sleep(ACCEPT_PAUSE);
                }
            },
        }
    }
}

/// Returns the supervisor, if there is one that wants to know when this is ready.
fn connect() -> Option<Notifier> {
    Notifier::connect().unwrap_or_else(|error| {
        complain(format_args!("web cannot reach the notify socket: {error}"));
        None
    })
}

fn begin<'scope>(scope: &'scope Scope<'scope, '_>, stream: TcpStream, site: &'scope Site) {
    let running = site.running.fetch_add(1, Ordering::Relaxed);
    let answer = move || {
        let result = if running < REQUESTS_MAX {
            converse(&stream, site)
        } else {
            respond(&stream, 503, "{\"error\":\"too many requests\"}", true).map(|()| String::new())
        };
        site.running.fetch_sub(1, Ordering::Relaxed);
        match result {
            Ok(line) if line.is_empty() => {}
            Ok(line) => say(line),
            Err(error) => complain(format_args!("web lost a client: {error}")),
        }
    };
    if running < REQUESTS_MAX {
        scope.spawn(answer);
    } else {
        answer();
    }
}

/// Reads one request and answers it; returns the line for the access log.
fn converse(stream: &TcpStream, site: &Site) -> io::Result<String> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(CLIENT_LIMIT))?;
    stream.set_write_timeout(Some(CLIENT_LIMIT))?;
    let mut head = BufReader::new(stream.take(HEAD_BYTES_MAX));
    let mut request = String::new();
    head.read_line(&mut request)?;
    loop {
        let mut field = String::new();
        if head.read_line(&mut field)? == 0 || field.trim_end().is_empty() {
            break;
        }
    }
    let mut words = request.split_whitespace();
    let (method, path) = (words.next().unwrap_or("-"), words.next().unwrap_or("-"));
    let (status, body) = answer(method, path, site);
    respond(stream, status, &body, method != "HEAD")?;
    Ok(format!("{method} {path} {status}"))
}

/// Returns the status and the body for a request.
fn answer(method: &str, path: &str, site: &Site) -> (u16, String) {
    let cold = site.warm_at.saturating_duration_since(Instant::now());
    match (method, path) {
        ("GET" | "HEAD", "/" | "/healthz") if !cold.is_zero() => {
            (503, format!("{{\"status\":\"warming up\",\"left_s\":{:.1}}}", cold.as_secs_f64()))
        }
        ("GET" | "HEAD", "/healthz") => (200, "{\"status\":\"ok\"}".to_owned()),
        ("GET" | "HEAD", "/") => {
            let hits = site.hits.fetch_add(1, Ordering::Relaxed) + 1;
            let pid = std::process::id();
            (200, format!("{{\"service\":\"web\",\"hits\":{hits},\"pid\":{pid}}}"))
        }
        ("GET" | "HEAD", _) => (404, "{\"error\":\"no such page\"}".to_owned()),
        _ => (405, "{\"error\":\"only GET and HEAD\"}".to_owned()),
    }
}

/// Writes an answer; one to HEAD tells the length of a body that it does not have.
fn respond(mut stream: &TcpStream, status: u16, body: &str, whole: bool) -> io::Result<()> {
    let words = match status {
        200 => "OK",
        404 => "Not Found",
        405 => "Method Not Allowed",
        _ => "Service Unavailable",
    };
    let length = body.len() + 1;
    let mut answer = format!(
        "HTTP/1.1 {status} {words}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    if whole {
        answer.push_str(body);
        answer.push('\n');
    }
    // In one piece: who only looks at the status may be gone before a second one.
    stream.write_all(answer.as_bytes())
}
