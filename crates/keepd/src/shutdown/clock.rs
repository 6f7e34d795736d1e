//! The one clock of this crate: that of the runtime where there is one, so that a test which pauses
//! its time pauses ours.

use std::time::Instant;

/// Returns the time now.
pub(crate) fn now() -> Instant {
    #[cfg(feature = "tokio")]
    return tokio::time::Instant::now().into_std();
    #[cfg(not(feature = "tokio"))]
    return Instant::now();
}
