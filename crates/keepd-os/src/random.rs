//! Randomness from the kernel, for seeds and invocation ids.

use keepd_model::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::errno;

/// `getrandom(buf, 16, 0)`: returns 128 random bits.
///
/// Blocks only in the first moments of a boot, until the kernel's pool is ready. See getrandom(2).
pub fn seed() -> Result<u128, Errno> {
    let mut bytes = [0; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(errno::from_rustix(error)),
        }
    }
    Ok(u128::from_ne_bytes(bytes))
}
