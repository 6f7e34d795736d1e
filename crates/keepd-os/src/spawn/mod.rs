//! A process from a description, without ever waiting for it.
//!
//! [`spawn`] makes the child with clone3(2) straight into its cgroup and returns. The child
//! prepares itself with raw system calls only: between the clone and execve(2) nothing is
//! allocated, locked or formatted, because another thread may have held a lock at the moment of the
//! clone. Each of its steps has a number ([`keepd_model::SpawnStep`]); a failed one is written to a
//! pipe together with its errno, and a pipe that ends without a word means that the program runs.
//! The read end of that pipe belongs into the caller's epoll set ([`Spawned`]), so a slow file
//! system stalls one child and nobody else.
//!
//! # Why a spawn stays cheap with many descriptors
//!
//! A clone copies the table of descriptors, which a parent with thousands of pipes feels. After
//! [`reserve_slots`] the table is shared instead (CLONE_FILES), and the child's first act is a
//! private copy of its lowest part: `close_range(K, ~0, CLOSE_RANGE_UNSHARE)`. What the child needs
//! must therefore lie below K and stay untouched until the copy exists. That is what slots are:
//! descriptor numbers that were taken early, a few of them for each spawn in flight. The
//! child says "I have my own" with one zero byte on its pipe; then, or when the child has ended,
//! they are free again. When too few are free the spawn is made with a full copy, which is slower
//! and nothing else.

mod child;
mod report;
mod request;
mod slots;
mod start;

pub use report::{Report, Spawned};
pub use request::{Descriptor, FAILURE_STATUS, Session, SpawnRequest};
pub(crate) use slots::SLOTS_MAX;
pub use slots::reserve_slots;
pub use start::spawn;
