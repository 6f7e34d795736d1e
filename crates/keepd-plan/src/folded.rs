//! Words as people write them.

/// Returns a word without what people vary in it: case, dashes and underscores.
pub(crate) fn folded(word: &str) -> String {
    word.chars()
        .filter(|letter| !matches!(letter, '-' | '_'))
        .map(|letter| letter.to_ascii_lowercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_takes_case_and_dashes_away() {
        assert_eq!(folded("Depends-On"), folded("depends_on"));
    }
}
