//! TCP ports that nobody uses.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Mutex;

/// Ports that were handed out: the kernel may offer one again before its new owner has bound it.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Returns a TCP port of 127.0.0.1 that is free now, and that no other test of this program gets.
pub fn free_port() -> u16 {
    let mut given = GIVEN.lock().expect("no test panics in here");
    loop {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there are free ports");
        let address = listener.local_addr().expect("a listener has an address");
        if given.insert(address.port()) {
            return address.port();
        }
    }
}
