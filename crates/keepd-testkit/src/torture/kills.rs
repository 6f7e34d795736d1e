//! Whom to kill, and when: the same for the same seed.

use std::fmt;

use super::Dice;

/// Of so many kills, one comes at once after the one before, without waiting for control.
const AT_ONCE_ONE_IN: u64 = 8;

/// A process of keepd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

    /// Returns its name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Warden => "warden",
            Self::Proxy => "proxy",
            Self::Manager => "manager",
        }
    }

    /// Reads a name.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|victim| victim.word() == word)
    }
}

impl fmt::Display for Victim {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// Who may be killed at once with another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pairs {
    /// Nobody.
    None,
    /// The manager with one of the others: one of those that keep the services is left.
    One,
    /// Warden and proxy, too. Then a status may be unknown.
    #[default]
    Any,
}

impl Pairs {
    fn allow(self, first: Victim, second: Victim) -> bool {
        let has_manager = first == Victim::Manager || second == Victim::Manager;
        first != second
            && match self {
                Self::None => false,
                Self::One => has_manager,
                Self::Any => true,
            }
    }
}

/// One kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    /// Who.
    pub victim: Victim,
    /// After so many more starts in the event log since control was back.
    pub after_starts: u32,
    /// A second victim, killed at once after the first.
    pub with: Option<Victim>,
}

impl Kill {
    /// Returns everybody who is killed.
    pub fn victims(&self) -> impl Iterator<Item = Victim> {
        [Some(self.victim), self.with].into_iter().flatten()
    }

    /// Reports whether nobody is left who keeps the services: two faults that come into each other,
    /// for which statuses may be unknown.
    pub fn is_double_fault(&self) -> bool {
        self.with.is_some() && self.victims().all(|victim| victim != Victim::Manager)
    }
}

/// Kills without end, from a seed.
#[derive(Clone, Debug)]
pub struct Kills {
    dice: Dice,
    victims: Vec<Victim>,
    starts_max: u32,
    pairs: Pairs,
}

impl Kills {
    /// Makes the row of kills of a seed, with up to `starts_max` starts between two of them.
    pub fn new(seed: u64, starts_max: u32) -> Self {
        Self {
            dice: Dice::new(seed),
            victims: Victim::ALL.to_vec(),
            starts_max,
            pairs: Pairs::default(),
        }
    }

    /// Kills only these.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn only(mut self, victims: &[Victim]) -> Self {
        assert!(!victims.is_empty(), "somebody has to be killed");
        self.victims = victims.to_vec();
        self
    }

    /// Says who may be killed at once with another one; at first [`Pairs::Any`].
    #[must_use]
    pub fn pairs(mut self, pairs: Pairs) -> Self {
        self.pairs = pairs;
        self
    }
}

impl Iterator for Kills {
    type Item = Kill;

    fn next(&mut self) -> Option<Kill> {
        let victim = *self.dice.one_of(&self.victims);
        let after_starts = u32::try_from(self.dice.below(u64::from(self.starts_max) + 1)).ok()?;
        let is_pair = self.dice.one_in(AT_ONCE_ONE_IN);
        let other = *self.dice.one_of(&self.victims);
        let with = (is_pair && self.pairs.allow(victim, other)).then_some(other);
        Some(Kill { victim, after_starts, with })
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
            assert_eq!(Victim::parse(victim.word()), Some(victim));
        }
        assert!(kills.iter().all(|kill| kill.after_starts <= 20));
        assert!(kills.iter().any(|kill| kill.after_starts == 0));
        assert!(Kills::new(0, 0).take(10).all(|kill| kill.after_starts == 0));
    }

    #[test]
    fn two_at_once_are_two_different_ones_and_can_be_left_out() {
        let pairs = |kills: Kills| kills.take(1000).filter(|kill| kill.with.is_some()).count();
        assert!(pairs(Kills::new(1, 5)) > 40);
        assert!(Kills::new(1, 5).pairs(Pairs::One).take(1000).all(|kill| !kill.is_double_fault()));
        assert!(Kills::new(1, 5).take(1000).all(|kill| kill.with != Some(kill.victim)));
        assert!(Kills::new(1, 5).take(1000).any(|kill| kill.is_double_fault()));
        assert_eq!(pairs(Kills::new(1, 5).pairs(Pairs::None)), 0);
        let only = Kills::new(1, 5).only(&[Victim::Manager]);
        assert!(only.take(50).all(|kill| kill.victim == Victim::Manager && kill.with.is_none()));
    }
}
