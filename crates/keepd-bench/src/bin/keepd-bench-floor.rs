//! The floor: a parent that starts programs, waits for their ends, and does nothing else; or one
//! that sends back what a connection says.
//!
//! Usage: `keepd-bench-floor once|again COUNT PROGRAM [ARGUMENT...]`, `keepd-bench-floor echo
//! SOCKET`. `again`: what ends is started at once; `once`: the floor ends with the last of its
//! children; `echo`: it ends with its first connection.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, ExitCode};

use keepd_os::spawn::{Descriptor, FAILURE_STATUS, Session, SpawnRequest, spawn};
use rustix::process::{WaitOptions, wait};

/// What is read and sent back at once.
const ECHO_BYTES: usize = 64 * 1024;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let [mode, socket] = arguments.as_slice()
        && mode == "echo"
    {
        return match echo(socket) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("cannot echo at \"{}\": {error}", socket.display());
                ExitCode::from(111)
            }
        };
    }
    let [mode, count, program, rest @ ..] = arguments.as_slice() else {
        return usage();
    };
    let again = match mode.to_str() {
        Some("again") => true,
        Some("once") => false,
        Some(_) | None => return usage(),
    };
    let Some(count) = count.to_str().and_then(|word| word.parse::<usize>().ok()) else {
        return usage();
    };
    let outcome = start_many(program, rest, count).and_then(|()| reap(program, rest, again));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot run \"{}\": {error}", program.display());
            ExitCode::from(111)
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: keepd-bench-floor once|again COUNT PROGRAM [ARGUMENT...]");
    eprintln!("       keepd-bench-floor echo SOCKET");
    ExitCode::from(100)
}

/// Sends back what the first connection says, until it ends.
fn echo(socket: &OsString) -> io::Result<()> {
    let (mut connection, _) = UnixListener::bind(socket)?.accept()?;
    let mut buffer = vec![0; ECHO_BYTES];
    loop {
        match connection.read(&mut buffer)? {
            0 => return Ok(()),
            count => connection.write_all(&buffer[..count])?,
        }
    }
}

/// Starts the children by clone(2) without waiting until one is executed: with a second processor
/// nothing is faster for many.
fn start_many(program: &OsString, rest: &[OsString], count: usize) -> io::Result<()> {
    let words = [program].into_iter().chain(rest);
    let arguments: Vec<Vec<u8>> = words.map(|word| word.as_bytes().to_vec()).collect();
    let environment: Vec<Cow<'_, [u8]>> = std::env::vars_os()
        .map(|(key, value)| [key.as_bytes(), b"=", value.as_bytes()].concat().into())
        .collect();
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    let descriptors = [input.as_fd(), output.as_fd(), error.as_fd()].map(Descriptor::Open);
    let request = SpawnRequest {
        file: None,
        arguments: &arguments,
        environment: &environment,
        directory: None,
        umask: 0o022,
        uid: None,
        gid: None,
        groups: None,
        descriptors: &descriptors,
        extra: &[],
        keep_from: None,
        cgroup: None,
        session: Session::Inherit,
        ignored: &[],
        descriptor_limit: None,
        record: None,
        failure_status: FAILURE_STATUS,
    };
    for _ in 0..count {
        // A child that is dropped is neither killed nor waited for.
        drop(spawn(&request).map_err(|failure| io::Error::other(failure.to_string()))?);
    }
    Ok(())
}

/// Reaps the children until none is left. What is to run again is started by posix_spawn(3), which
/// shares memory with its parent until the program is executed: for one, nothing is faster.
fn reap(program: &OsString, rest: &[OsString], again: bool) -> io::Result<()> {
    let mut command = Command::new(program);
    command.args(rest);
    loop {
        match wait(WaitOptions::empty()) {
            Ok(_) if again => drop(command.spawn()?),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
