//! Whom to kill, and when: the same for the same seed.

/// A process of keepd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Victim {
    /// The process that keeps the proxy alive.
    Warden,
    /// The parent of services.
    Proxy,
    /// The process that decides.
    Manager,
}

impl Victim {
    /// Every victim.
    pub const ALL: [Self; 3] = [Self::Warden, Self::Proxy, Self::Manager];
}

/// One kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    /// Who.
    pub victim: Victim,
    /// After so many more starts in the event log than at the kill before.
    pub after_starts: u32,
}

/// Kills without end, from a seed.
#[derive(Clone, Debug)]
pub struct Kills {
    state: u64,
    starts_max: u32,
}

impl Kills {
    /// Makes the row of kills of a seed, with 1 to `starts_max` starts between two of them.
    pub fn new(seed: u64, starts_max: u32) -> Self {
        // xorshift stays at 0 for ever.
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, starts_max: starts_max.max(1) }
    }

    fn next_number(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state >> 32
    }
}

impl Iterator for Kills {
    type Item = Kill;

    fn next(&mut self) -> Option<Kill> {
        let count = Victim::ALL.len() as u64;
        let victim = Victim::ALL[(self.next_number() % count) as usize];
        let after_starts = 1 + (self.next_number() % u64::from(self.starts_max)) as u32;
        Some(Kill { victim, after_starts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_row_of_kills_of_everybody() {
        let kills: Vec<Kill> = Kills::new(7, 20).take(1000).collect();
        assert!(kills.iter().copied().eq(Kills::new(7, 20).take(1000)));
        assert!(!kills.iter().copied().eq(Kills::new(8, 20).take(1000)));
        for victim in Victim::ALL {
            assert!(kills.iter().filter(|kill| kill.victim == victim).count() > 200);
        }
        assert!(kills.iter().all(|kill| (1..=20).contains(&kill.after_starts)));
        assert!(Kills::new(0, 0).take(10).all(|kill| kill.after_starts == 1));
    }
}
