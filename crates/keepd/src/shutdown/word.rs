//! The shutdown word: whether, why and how far, in one atomic number.

use super::ShutdownReason;

const BEGUN: u64 = 1;
const FORCED: u64 = 1 << 1;
const ABORTING: u64 = 1 << 2;
const REASON_SHIFT: u32 = 8;
const SIGNAL_SHIFT: u32 = 32;

/// A value of the word. Zero means that nobody asked for a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    /// Returns the word of a shutdown that just began.
    pub(super) const fn begun(reason: ShutdownReason) -> Self {
        let (tag, signal) = match reason {
            ShutdownReason::Signal(signal) => (0, signal),
            ShutdownReason::Requested => (1, 0),
            ShutdownReason::Error => (2, 0),
            ShutdownReason::ResourceExhausted => (3, 0),
            ShutdownReason::Forced => (4, 0),
        };
        let word = BEGUN | tag << REASON_SHIFT | (signal.cast_unsigned() as u64) << SIGNAL_SHIFT;
        // Who asks with this reason does not want to wait for the graceful time.
        Self(if matches!(reason, ShutdownReason::Forced) { word | FORCED } else { word })
    }

    /// Returns the same word with the mark of the force phase.
    pub(super) const fn forced(self) -> Self {
        Self(self.0 | FORCED)
    }

    /// Returns the same word with the mark that nobody is waited for any longer.
    pub(super) const fn aborting(self) -> Self {
        Self(self.0 | FORCED | ABORTING)
    }

    pub(super) const fn is_aborting(self) -> bool {
        self.0 & ABORTING != 0
    }

    pub(super) const fn is_begun(self) -> bool {
        self.0 & BEGUN != 0
    }

    pub(super) const fn is_forced(self) -> bool {
        self.0 & FORCED != 0
    }

    /// Returns the first reason, once a shutdown has begun.
    pub(super) const fn reason(self) -> Option<ShutdownReason> {
        if !self.is_begun() {
            return None;
        }
        Some(match self.0 >> REASON_SHIFT & 0xff {
            1 => ShutdownReason::Requested,
            2 => ShutdownReason::Error,
            3 => ShutdownReason::ResourceExhausted,
            4 => ShutdownReason::Forced,
            _ => ShutdownReason::Signal(((self.0 >> SIGNAL_SHIFT) as u32).cast_signed()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_comes_back() {
        let reasons = [
            ShutdownReason::Signal(15),
            ShutdownReason::Signal(-1),
            ShutdownReason::Requested,
            ShutdownReason::Error,
            ShutdownReason::ResourceExhausted,
            ShutdownReason::Forced,
        ];
        for reason in reasons {
            assert_eq!(Word::begun(reason).reason(), Some(reason));
            assert_eq!(Word::begun(reason).forced().reason(), Some(reason));
        }
        assert_eq!(Word(0).reason(), None);
    }

    #[test]
    fn only_the_reason_forced_begins_with_force() {
        assert!(Word::begun(ShutdownReason::Forced).is_forced());
        assert!(!Word::begun(ShutdownReason::Requested).is_forced());
        assert!(Word::begun(ShutdownReason::Requested).forced().is_forced());
    }
}
