//! The nearest valid word for a mistyped one.

/// The longest word for which a neighbour is looked for, in characters.
const WORD_CHARS_MAX: usize = 64;

/// Returns the candidate with the fewest edits (insert, delete, change, swap of neighbours) from
/// `word`, if they are few enough for a typing error: one for every three characters. Of several
/// the first in the alphabet, so that the answer never depends on the order of candidates.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word: Vec<char> = word.chars().take(WORD_CHARS_MAX + 1).collect();
    if word.len() > WORD_CHARS_MAX {
        return None;
    }
    let edits_max = word.len().div_ceil(3);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= edits_max)
        .map(|candidate| (edits(&word, candidate), candidate))
        .filter(|(count, _)| *count <= edits_max)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The restricted Damerau-Levenshtein distance, with three rows of the usual table.
fn edits(word: &[char], candidate: &str) -> usize {
    let candidate: Vec<char> = candidate.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=candidate.len()).collect();
    for (row, letter) in word.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in candidate.iter().enumerate() {
            let changed = last[column] + usize::from(letter != other);
            let mut least = changed.min(last[column + 1] + 1).min(current[column] + 1);
            let swapped = row > 0
                && column > 0
                && *letter == candidate[column - 1]
                && word[row - 1] == *other;
            if swapped {
                least = least.min(before_last[column - 1] + 1);
            }
            current.push(least);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[candidate.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_count_inserts_deletes_changes_and_swaps() {
        let count = |left: &str, right: &str| edits(&left.chars().collect::<Vec<_>>(), right);
        assert_eq!(count("", ""), 0);
        assert_eq!(count("", "abc"), 3);
        assert_eq!(count("abc", ""), 3);
        assert_eq!(count("comand", "command"), 1);
        assert_eq!(count("commmand", "command"), 1);
        assert_eq!(count("cammand", "command"), 1);
        assert_eq!(count("ocmmand", "command"), 1);
        assert_eq!(count("kitten", "sitting"), 3);
    }

    #[test]
    fn only_a_typing_error_has_a_neighbour() {
        let words = ["always", "on-failure", "never"];
        assert_eq!(nearest("alway", words), Some("always"));
        assert_eq!(nearest("nevr", words), Some("never"));
        assert_eq!(nearest("sometimes", words), None);
        assert_eq!(nearest("", words), None);
        assert_eq!(nearest(&"x".repeat(100_000), words), None);
    }

    #[test]
    fn of_two_equal_neighbours_the_first_in_the_alphabet_wins() {
        assert_eq!(nearest("dc", ["dd", "db"]), Some("db"));
    }
}
