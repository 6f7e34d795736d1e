//! `cargo xtask api`: every public item of the library as one line of a file that is checked in, so
//! that a break is a line that a reviewer sees.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::outcome::{Failure, Verdict};
use crate::workspace::{self, cargo, root};

/// The file, below the root.
const FILE: &str = "crates/keepd/public-api.txt";

/// rustdoc's JSON is not stable yet, and the pinned compiler writes it all the same when it is told
/// so, in a folder of its own: dependencies whose builds look at `RUSTC_BOOTSTRAP` are built anew.
const RUSTDOC: &str = "rustdoc --quiet --package keepd --lib --all-features -- \
                       -Zunstable-options --output-format=json";

/// Runs the command: writes the file, or with `--check` compares it.
pub(crate) fn run(arguments: &[String]) -> Result<Verdict, Failure> {
    let check_only = match arguments {
        [] => false,
        [option] if option == "--check" => true,
        _ => return Err(Failure::Usage("api takes --check or nothing".to_owned())),
    };
    let Some(current) = current()? else {
        println!("cargo xtask api: FAILED: the documentation does not build");
        return Ok(Verdict::No);
    };
    let path = root().join(FILE);
    let recorded = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Failure::System(format!("cannot read {path:?}: {error}"))),
    };
    let changes = changes(&recorded, &current);
    for line in &changes {
        println!("{line}");
    }
    if !check_only {
        fs::write(&path, &current)
            .map_err(|error| Failure::System(format!("cannot write {path:?}: {error}")))?;
        println!("wrote {FILE}: {} lines, {} changed", current.lines().count(), changes.len());
        return Ok(Verdict::Yes);
    }
    // Lines in another order are no change of what the library offers.
    if changes.is_empty() {
        return Ok(Verdict::Yes);
    }
    println!(
        "{FILE}: the library offers something else than the file says: a line with - breaks \
         programs; run cargo xtask api, and commit the result if it is meant"
    );
    Ok(Verdict::No)
}

/// Returns what the library offers now with all features, or none if it does not build.
fn current() -> Result<Option<String>, Failure> {
    let target = workspace::target()?.join("api");
    let mut rustdoc = cargo(RUSTDOC);
    rustdoc.env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", &target);
    if !workspace::run(&mut rustdoc)?.success() {
        return Ok(None);
    }
    let json: PathBuf = target.join("doc/keepd.json");
    // What every type gets by itself, and what it gets from its parts, would bury the rest.
    let api = public_api::Builder::from_rustdoc_json(&json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .build()
        .map_err(|error| Failure::System(format!("cannot understand {json:?}: {error}")))?;
    Ok(Some(api.to_string()))
}

/// Returns the lines that went, with `-`, and those that came, with `+`.
fn changes(before: &str, after: &str) -> Vec<String> {
    let [before, after]: [BTreeSet<&str>; 2] = [before, after].map(|text| text.lines().collect());
    let gone = before.difference(&after).map(|line| format!("-{line}"));
    let new = after.difference(&before).map(|line| format!("+{line}"));
    gone.chain(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_and_what_comes_is_named_and_order_does_not_matter() {
        assert_eq!(changes("a\nb\n", "b\na\n"), Vec::<String>::new());
        assert_eq!(
            changes("pub fn a()\nb\n", "b\npub fn a(u8)\n"),
            ["-pub fn a()", "+pub fn a(u8)"]
        );
    }

    #[test]
    fn the_file_is_there_and_names_what_everybody_uses() {
        let text = fs::read_to_string(root().join(FILE)).unwrap();
        for line in ["pub mod keepd\n", "pub fn keepd::DaemonBuilder::build("] {
            assert!(text.contains(line), "{line:?} is missing: cargo xtask api");
        }
    }
}
