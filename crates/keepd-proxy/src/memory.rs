//! Memory: one fixed region with static pools, a reserve without them.
//!
//! Rust ends a process that gets no memory. So that the proxy never does, the machine is told
//! before anything is gone ([`is_low`]), and refuses what would make something grow; everything
//! else goes on with what was kept back.
//!
//! The constants are measured: `cargo test -p keepd-proxy --test memory -- --show` fills pools of
//! many sizes, and shows how much of each region was needed.

use keepd_compat::{Limits, Pool};
use keepd_model::protocol::PLAIN_LINE_BYTES_MAX;
use keepd_model::{Errno, LogLevel};
use keepd_os::heap;

use crate::log::Log;

/// What is kept back for commands that make nothing grow, for events, deaths and starts.
const RESERVE_BYTES: usize = 256 * 1024;
/// A command may need this at once: it has at most 1,023 bytes, and each of its words becomes a
/// few pieces.
const ROOM_BYTES: usize = 128 * 1024;
/// Connections at the same time.
const CONNECTIONS_MAX: usize = 256;
/// Connections at the same time, where each has its share of the region.
const STATIC_CONNECTIONS_MAX: usize = 16;
/// Connections at the same time, while there is no memory but the reserve.
const LOW_CONNECTIONS_MAX: usize = 4;
/// What the proxy takes before there is any service, and what is handed round in one turn.
const BASE_BYTES: usize = 128 * 1024;
/// What a connection takes: 9 KiB for lines that wait to be run, 16 KiB for those to be written.
const CONNECTION_BYTES: usize = 28 * 1024;
/// What a service takes beside its data: its place in the tables, its name, its process, timers.
/// Without a process it is 750 bytes, while it is started 1,040.
const SERVICE_BYTES: usize = 1152;
/// What a handle takes beside its text: its place in the tables, and its name.
const HANDLE_BYTES: usize = 512;
/// The most data of a service: each of its four lists came in a line.
const SERVICE_DATA_BYTES_MAX: usize = 4 * PLAIN_LINE_BYTES_MAX;
/// What a variable of the environment takes for a start, beside its bytes.
const VARIABLE_BYTES: usize = 128;

/// Takes all memory that this process will ever need, if both pools are given. Returns whether it
/// did: otherwise there is nothing to take in advance but a [`reserve`].
///
/// # Errors
///
/// Returns why the system does not give it.
pub(crate) fn take_pools(limits: Limits) -> Result<bool, Errno> {
    match (limits.services, limits.handles) {
        (Some(services), Some(handles)) => {
            unless_taken(heap::seal(region_bytes(services, handles))).map(|()| true)
        }
        (Some(_) | None, Some(_) | None) => Ok(false),
    }
}

/// Keeps memory back for when the system refuses it.
pub(crate) fn reserve() -> Result<(), Errno> {
    unless_taken(heap::keep_reserve(RESERVE_BYTES))
}

/// A second proxy in the same process (a test) has what the first one took.
fn unless_taken(outcome: Result<(), Errno>) -> Result<(), Errno> {
    match outcome {
        Err(Errno::EBUSY) => Ok(()),
        outcome => outcome,
    }
}

/// How the proxy gets its memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// How often the system was asked before the start.
    system_calls: u64,
    /// The machine was told that nothing may grow.
    pub(crate) is_low: bool,
}

impl Memory {
    /// Begins to count: what was taken in advance is taken.
    pub(crate) fn new() -> Self {
        Self { system_calls: heap::system_calls(), is_low: false }
    }

    /// Says at the end how much of the region was needed, and whether it was enough.
    pub(crate) fn tell_usage(&self, log: &mut Log) {
        if heap::is_sealed() {
            let heap::RegionUsage { bytes, used_bytes_max } = heap::region_usage();
            let calls = heap::system_calls() - self.system_calls;
            let text = format_args!(
                "memory: at most {used_bytes_max} of {bytes} bytes were in use, and the system was \
                 asked {calls} times since the start"
            );
            log.say(LogLevel::Debug, text);
        }
    }
}

/// Returns how many connections there can be at the same time.
pub(crate) fn connections_max(limits: Limits) -> usize {
    match (limits.services, limits.handles) {
        (Some(_), Some(_)) => STATIC_CONNECTIONS_MAX,
        (Some(_) | None, Some(_) | None) => CONNECTIONS_MAX,
    }
}

/// Reports whether nothing may grow for now.
pub(crate) fn is_low() -> bool {
    // Asking the system for room would cost more than most commands.
    if heap::is_sealed() { !heap::has_room(ROOM_BYTES) } else { heap::is_low() }
}

/// Reports whether one more connection may be let in: while memory is low, a few have their share
/// of the reserve, so that somebody can look and stop what takes all of it.
pub(crate) fn admits(connections: usize) -> bool {
    !is_low() || (!heap::is_sealed() && connections < LOW_CONNECTIONS_MAX)
}

/// Reports whether memory is to be spared: all of it was taken at the start, or none is left.
pub(crate) fn is_scarce() -> bool {
    heap::is_sealed() || heap::is_low()
}

/// Reports whether so much can be had for something unusually large.
pub(crate) fn has_room(bytes: usize) -> bool {
    heap::has_room(bytes)
}

/// Returns what a line of an extended connection may need while it is read: copies of its bytes,
/// and a piece of memory for each word.
pub(crate) fn bytes_to_read(line: &[u8]) -> usize {
    const COPIES: usize = 3;
    const WORD_BYTES: usize = 128;
    let words = 1 + line.iter().filter(|byte| **byte == b'\t').count();
    COPIES * line.len() + WORD_BYTES * words
}

fn region_bytes(services: Pool, handles: Pool) -> usize {
    let service = services.bytes.min(SERVICE_DATA_BYTES_MAX) + SERVICE_BYTES;
    let handle = handles.bytes.min(PLAIN_LINE_BYTES_MAX) + HANDLE_BYTES;
    BASE_BYTES
        + 2 * ROOM_BYTES
        + environment_bytes()
        + STATIC_CONNECTIONS_MAX * CONNECTION_BYTES
        + services.count * service
        + handles.count * handle
}

/// Returns what copies of the environment take, of which the last program gets one.
fn environment_bytes() -> usize {
    const COPIES: usize = 4;
    let variables = std::env::vars_os();
    variables.map(|(key, value)| COPIES * (key.len() + value.len()) + VARIABLE_BYTES).sum()
}
