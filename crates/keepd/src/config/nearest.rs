//! The word that was probably meant.

/// The longest word that is looked at; longer ones are no typing errors.
const WORD_CHARS_MAX: usize = 64;

/// Returns the candidate with the fewest edits, if one is near: at most a third of the word.
pub(super) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
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

/// Returns how many letters must be added, removed, changed or swapped with their neighbour: the
/// restricted Damerau-Levenshtein distance, with three rows of the usual table.
fn edits(word: &[char], candidate: &str) -> usize {
    let candidate: Vec<char> = candidate.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=candidate.len()).collect();
    for (row, letter) in word.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in candidate.iter().enumerate() {
            let changed = last[column] + usize::from(letter != other);
            let mut least = changed.min(last[column + 1] + 1).min(current[column] + 1);
            let is_swapped = row > 0
                && column > 0
                && *letter == candidate[column - 1]
                && word[row - 1] == *other;
            if is_swapped {
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
    fn only_a_typing_error_has_a_neighbour() {
        let words = ["graceful", "force", "kill"];
        assert_eq!(nearest("gracefull", words), Some("graceful"));
        assert_eq!(nearest("froce", words), Some("force"));
        assert_eq!(nearest("sometimes", words), None);
        assert_eq!(nearest("", words), None);
        assert_eq!(nearest(&"x".repeat(100_000), words), None);
    }
}
