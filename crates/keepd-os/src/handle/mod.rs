//! Descriptors that a client names: files, pipes and sockets made to order, inherited ones, and
//! those that come with a message.
//!
//! Nothing here blocks. Everything made is close-on-exec; a child gets its copy from
//! [`spawn`](crate::spawn::spawn).

mod inherited;
mod inspect;
mod open;
mod receive;
mod socket;

use std::fmt;

use keepd_model::Errno;

pub(crate) use inherited::open_numbers;
pub use inherited::{adopt, standard, take_inherited, was_closed};
pub use inspect::{Access, Inspection, Kind, inspect};
pub use open::{open, pipe};
pub use receive::{Received, receive};
pub use socket::{socket, socket_pair};

/// A system call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallError {
    /// Its name, such as `bind`.
    pub call: &'static str,
    /// Why.
    pub errno: Errno,
}

impl fmt::Display for CallError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.call, self.errno)
    }
}

impl std::error::Error for CallError {}

/// Names the call for an error of it.
fn failed(call: &'static str) -> impl Fn(rustix::io::Errno) -> CallError {
    move |error| CallError { call, errno: crate::errno::from_rustix(error) }
}
