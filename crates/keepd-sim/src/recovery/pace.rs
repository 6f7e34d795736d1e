//! How fast others go on while a process of ours is between two effects.

use std::time::Duration;

use super::kernel::Role;
use crate::random::Random;

/// How children, programs and init are scheduled, and whether processes of ours are killed at
/// random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Children go on only while everybody sleeps.
    Lazy,
    /// Children go on as far as they can between any two effects.
    Eager,
    /// Children need seconds between clone and their program, as with a slow disk.
    Slow,
    /// Everything by chance, and a SIGKILL before one of so many effects.
    Walk {
        /// How many effects there are to a SIGKILL, on average; 0: none.
        effects_to_kill: u64,
    },
}

impl Pace {
    /// The paces of a search; a walk has its own.
    pub const ALL: [Self; 3] = [Self::Lazy, Self::Eager, Self::Slow];

    /// The time of one step of a child.
    pub(super) fn child_delay(self, random: &mut Random) -> Duration {
        match self {
            Self::Lazy | Self::Eager => Duration::from_micros(20),
            Self::Slow => random.millis(500, 2_000),
            Self::Walk { .. } => match random.chance(10) {
                true => random.millis(1, 20_000),
                false => random.micros(1, 1_000),
            },
        }
    }

    /// The time until init takes a zombie away.
    pub(super) fn init_delay(self, random: &mut Random) -> Duration {
        match self {
            Self::Lazy | Self::Slow => Duration::from_millis(5),
            Self::Eager => Duration::ZERO,
            Self::Walk { .. } => random.micros(0, 5_000),
        }
    }

    /// How many things of others happen before an effect.
    pub(super) fn steps_between(self, random: &mut Random) -> u32 {
        match self {
            Self::Lazy | Self::Slow => 0,
            Self::Eager => 8,
            Self::Walk { .. } => u32::from(random.chance(15)),
        }
    }

    /// How far ahead of the clock things of others may happen between effects.
    pub(super) fn hurry(self) -> Duration {
        match self {
            Self::Lazy | Self::Slow => Duration::ZERO,
            Self::Eager => Duration::from_micros(100),
            Self::Walk { .. } => Duration::from_millis(20),
        }
    }

    /// Who is killed before this effect.
    pub(super) fn kills(self, random: &mut Random) -> Option<Role> {
        match self {
            Self::Lazy | Self::Eager | Self::Slow => None,
            Self::Walk { effects_to_kill: 0 } => None,
            Self::Walk { effects_to_kill } => (random.between(1, effects_to_kill) == 1)
                .then(|| random.pick(&[Role::Warden, Role::Proxy, Role::Proxy, Role::Manager])),
        }
    }
}
