//! The command line of the proxy.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use keepd_proxy::{PoolText, Step, read_options, read_pool};

/// The words after `keepd proxy`, one on each line: each gives steps or a mistake that has a text,
/// and everything before it counts all the same.
pub fn options(bytes: &[u8]) {
    let words: Vec<OsString> =
        bytes.split(|byte| *byte == b'\n').map(|word| OsString::from_vec(word.to_vec())).collect();
    let steps = read_options(words.iter().cloned());
    assert!(steps.len() <= bytes.len() + 1, "more steps than letters");
    for step in &steps {
        if let Step::Mistake(error) = step {
            assert!(!error.to_string().is_empty());
        }
    }
}

/// The size of a pool: what is read is written in one form, which is read as the same.
pub fn pools(bytes: &[u8]) {
    match read_pool(bytes) {
        Ok(PoolText { count, bytes }) => {
            let written = match bytes {
                Some(bytes) => format!("{count}x{bytes}"),
                None => count.to_string(),
            };
            assert_eq!(read_pool(written.as_bytes()), Ok(PoolText { count, bytes }));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
