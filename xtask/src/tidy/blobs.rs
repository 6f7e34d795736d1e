//! What is large does not belong into a history that everybody copies.

use super::finding::Finding;

/// The largest file.
const BYTES_MAX: u64 = 512 * 1024;

/// Checks the size of any file.
pub(crate) fn check(path: &str, bytes: u64) -> Option<Finding> {
    (bytes > BYTES_MAX).then(|| {
        let message = format!(
            "the file has {bytes} bytes of {BYTES_MAX}: generate it in the test that needs it"
        );
        Finding::new(path, 1, "blob", message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_at_most_half_a_mebibyte() {
        assert_eq!(check("a.bin", 512 * 1024), None);
        assert!(check("a.bin", 512 * 1024 + 1).is_some());
    }
}
