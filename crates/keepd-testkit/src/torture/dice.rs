//! Numbers that look like chance and are the same for the same seed.

/// A generator of numbers: xorshift, which is good enough to choose whom to kill.
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// Makes the generator of a seed.
    pub fn new(seed: u64) -> Self {
        // Seeds that differ in one bit must not begin alike; xorshift stays at 0 for ever.
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    /// Makes the generator of something with a name, of the same seed.
    pub fn named(seed: u64, name: &str, number: u64) -> Self {
        let start = seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93);
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let mut dice = Self::new(name.bytes().fold(start, mix));
        // The first numbers of seeds that are near each other are near each other.
        (0..4).for_each(|_| {
            dice.number();
        });
        dice
    }

    /// Returns the next number of 32 bits.
    pub fn number(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state >> 32
    }

    /// Returns a number from 0 to `count - 1`; 0 if `count` is 0.
    pub fn below(&mut self, count: u64) -> u64 {
        self.number() % count.max(1)
    }

    /// Returns a number from `first` to `last`.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last.saturating_sub(first) + 1)
    }

    /// Reports whether one of `count` equal chances came true.
    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// Returns one of these.
    ///
    /// # Panics
    /// If there is none.
    pub fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        let index = self.below(choices.len() as u64);
        &choices[usize::try_from(index).expect("an index is less than a length")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_gives_others() {
        let row = |mut dice: Dice| -> Vec<u64> { (0..50).map(|_| dice.number()).collect() };
        assert_eq!(row(Dice::new(7)), row(Dice::new(7)));
        assert_ne!(row(Dice::new(7)), row(Dice::new(8)));
        assert_eq!(row(Dice::named(7, "web", 3)), row(Dice::named(7, "web", 3)));
        assert_ne!(row(Dice::named(7, "web", 3)), row(Dice::named(7, "web", 4)));
        assert_ne!(row(Dice::named(7, "web", 3)), row(Dice::named(7, "wec", 3)));
    }

    #[test]
    fn every_choice_comes_up() {
        let mut dice = Dice::new(0);
        let mut seen = [false; 6];
        (0..200).for_each(|_| seen[usize::try_from(dice.between(1, 6)).unwrap() - 1] = true);
        assert_eq!(seen, [true; 6]);
        assert_eq!(dice.below(0), 0);
        assert_eq!(*dice.one_of(&["only"]), "only");
        assert!(dice.one_in(1));
    }
}
