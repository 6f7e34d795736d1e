//! Memory: one fixed region with static pools, a reserve without them.
//!
//! Rust ends a process that gets no memory. So that the proxy never does, the front end is told
//! before anything is gone ([`is_low`]), and refuses what would make something grow; everything
//! else goes on with what was kept back.

use keepd_compat::{Limits, Pool};
use keepd_model::Errno;
use keepd_model::protocol::PLAIN_LINE_BYTES_MAX;
use keepd_os::heap;

/// What is kept back for commands that make nothing grow, for events, deaths and starts.
const RESERVE_BYTES: usize = 256 * 1024;
/// A command may need this at once: it has at most 1,023 bytes, and each of its words becomes a
/// few pieces.
const ROOM_BYTES: usize = 128 * 1024;
/// What the tables of the proxy take before there is any service, with the buffers of connections.
const BASE_BYTES: usize = 1024 * 1024;
/// What a service takes beside its data: its place in the tables, its name, its process, timers,
/// and the lists while they are being replaced.
const SERVICE_BYTES: usize = 2048;
/// What a handle takes beside its text.
const HANDLE_BYTES: usize = 768;
/// Data is held once, and once more while it is being replaced or handed to a child.
const COPIES: usize = 3;

/// The most data that lines of plain connections can give a service: four lists.
const SERVICE_DATA_BYTES_MAX: usize = 4 * PLAIN_LINE_BYTES_MAX;

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

/// Reports whether nothing may grow for now.
pub(crate) fn is_low() -> bool {
    // Asking the system for room would cost more than most commands.
    if heap::is_sealed() { !heap::has_room(ROOM_BYTES) } else { heap::is_low() }
}

fn region_bytes(services: Pool, handles: Pool) -> usize {
    let service_bytes = services.bytes.min(SERVICE_DATA_BYTES_MAX) * COPIES + SERVICE_BYTES;
    let services = services.count * service_bytes;
    let handles = handles.count * (handles.bytes * COPIES + HANDLE_BYTES);
    BASE_BYTES + RESERVE_BYTES + services + handles
}
