//! What must hold for any bytes that a decoder of keepd is given: one function for each decoder,
//! which panics where it does not hold.
//!
//! libFuzzer calls the functions from the folder `fuzz`, a workspace of its own because it needs
//! another compiler. So do the tests of this crate, with every file of `fuzz/corpus` and with many
//! changed copies of them. It contains no decoder, file, clock or random number.
//!
//! Start from [`TARGETS`].

mod configuration;
mod front;
mod ledger;
mod options;
mod plain;
mod protocol;
mod records;

pub use configuration::configuration;
pub use front::front;
pub use ledger::ledger;
pub use options::{options, pools};
pub use plain::plain;
pub use protocol::{messages, requests, stream};
pub use records::{datagrams, index};

/// One decoder under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of the libFuzzer target, and of its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// The function. It panics where something does not hold.
    pub run: fn(&[u8]),
}

/// Every target, by name.
pub const TARGETS: [Target; 11] = [
    Target { name: "configuration", run: configuration },
    Target { name: "datagrams", run: datagrams },
    Target { name: "front", run: front },
    Target { name: "index", run: index },
    Target { name: "ledger", run: ledger },
    Target { name: "messages", run: messages },
    Target { name: "options", run: options },
    Target { name: "plain", run: plain },
    Target { name: "pools", run: pools },
    Target { name: "requests", run: requests },
    Target { name: "stream", run: stream },
];
