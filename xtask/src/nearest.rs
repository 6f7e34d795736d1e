//! The nearest known word to a mistyped one.

/// Returns the candidate that needs the fewest single-letter edits, if there are few enough that a
/// slip of the fingers explains them.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|(count, candidate)| *count <= 2 && *count < candidate.len())
        .min_by_key(|(count, _)| *count)
        .map(|(_, candidate)| candidate)
}

/// Counts the letters to insert, delete or replace (Levenshtein), one row of the table at a time.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_noise_finds_none() {
        let words = ["check", "test", "e2e", "tidy"];
        assert_eq!(nearest("tset", words.into_iter()), Some("test"));
        assert_eq!(nearest("tiddy", words.into_iter()), Some("tidy"));
        assert_eq!(nearest("release", words.into_iter()), None);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
