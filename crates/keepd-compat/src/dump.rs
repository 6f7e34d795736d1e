//! `statedump`: handles by name, services by name, pending signals by time; piece by piece, so that
//! no dump is ever whole in memory.

use keepd_engine::proxy::Proxy;
use keepd_model::{HandleName, Instant, ServiceName};

use crate::encode;

/// How far a dump is. What is made or changes meanwhile is told either here or as news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Dump {
    /// The next one is the first handle behind this name.
    Handles(Option<HandleName>),
    /// The next one is the first service behind this name.
    Services(Option<ServiceName>),
}

impl Default for Dump {
    fn default() -> Self {
        Self::Handles(None)
    }
}

/// Whether a dump goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is more.
    More,
    /// That was the last piece.
    Done,
}

impl Dump {
    /// Appends the next piece.
    pub(crate) fn write_piece(
        &mut self,
        now: Instant,
        core: &Proxy,
        description_bytes_max: Option<usize>,
        out: &mut Vec<u8>,
    ) -> Progress {
        match self {
            Self::Handles(after) => match core.handle_after(after.as_ref()) {
                Some(report) => {
                    encode::write_handle(&report, description_bytes_max, out);
                    *self = Self::Handles(Some(report.name));
                }
                None => *self = Self::Services(None),
            },
            Self::Services(after) => match core.service_after(after.as_ref()) {
                Some(service) => {
                    encode::write_service(now, &service, out);
                    *self = Self::Services(Some(service.name().clone()));
                }
                None => {
                    for (signal, at, count) in core.pending_signals() {
                        encode::write_signal(signal, at, count, out);
                    }
                    return Progress::Done;
                }
            },
        }
        Progress::More
    }
}
