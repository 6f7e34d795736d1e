//! `cargo xtask features`: the library builds with each feature alone, with none, with all, and on
//! request with each pair.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Instant;

use toml::Table;

use crate::outcome::{Failure, Verdict};
use crate::workspace::{self, cargo, root};

/// Runs the command.
pub(crate) fn run(arguments: &[String]) -> Result<Verdict, Failure> {
    let with_pairs = match arguments {
        [] => false,
        [word] if word == "--pairs" => true,
        _ => return Err(Failure::Usage("features takes --pairs or nothing".to_owned())),
    };
    let started = Instant::now();
    let features = read_features()?;
    let names: Vec<&str> = features.keys().map(String::as_str).collect();
    let mut count = 0;
    let mut failed = Vec::new();
    let mut check = |call: &str, set: String| -> Result<(), Failure> {
        count += 1;
        if !workspace::run(cargo(call).args([&set, "--", "-Dwarnings"]))?.success() {
            failed.push(if set.is_empty() { "none".to_owned() } else { set });
        }
        Ok(())
    };
    // As clippy, because its flags do not build the dependencies anew.
    let clippy = "clippy --quiet --package keepd --no-default-features --features";
    check(clippy, String::new())?;
    for name in &names {
        check(clippy, (*name).to_owned())?;
    }
    check(clippy, names.join(","))?;
    if with_pairs {
        // There are many of them, and what clippy says of two is what it says of each and of all.
        let rustc =
            "rustc --quiet --package keepd --lib --profile check --no-default-features --features";
        for (left, right) in pairs(&features, &named_in_code()?) {
            check(rustc, format!("{left},{right}"))?;
        }
    }
    for set in &failed {
        println!("FAILED with these features: {set}");
    }
    println!(
        "cargo xtask features: {} of {count} sets build ({:.0?})",
        count - failed.len(),
        started.elapsed()
    );
    Ok(Verdict::from_good(failed.is_empty()))
}

/// Returns the features that the manifest of the library names, and what each turns on.
fn read_features() -> Result<Table, Failure> {
    let path = root().join("crates/keepd/Cargo.toml");
    let broken = |why: String| Failure::System(format!("cannot read {path:?}: {why}"));
    let text = fs::read_to_string(&path).map_err(|error| broken(error.to_string()))?;
    let mut manifest: Table =
        text.parse().map_err(|error: toml::de::Error| broken(error.to_string()))?;
    let features = manifest.remove("features");
    let Some(toml::Value::Table(mut features)) = features else {
        return Err(broken("it has no [features]".to_owned()));
    };
    features.remove("default");
    Ok(features)
}

/// Returns the features that change what is compiled: those that a condition in the sources names.
/// The others are names for sets of features, and names that do nothing.
fn named_in_code() -> Result<BTreeSet<String>, Failure> {
    let mut names = BTreeSet::new();
    collect_names(&root().join("crates/keepd/src"), &mut names)?;
    Ok(names)
}

fn collect_names(folder: &Path, names: &mut BTreeSet<String>) -> Result<(), Failure> {
    let cannot = |path: &Path, error| Failure::System(format!("cannot read {path:?}: {error}"));
    for entry in fs::read_dir(folder).map_err(|error| cannot(folder, error))? {
        let path = entry.map_err(|error| cannot(folder, error))?.path();
        if path.is_dir() {
            collect_names(&path, names)?;
        } else {
            let text = fs::read_to_string(&path).map_err(|error| cannot(&path, error))?;
            names.extend(conditions(&text).map(str::to_owned));
        }
    }
    Ok(())
}

/// Returns what stands in `feature = "…"`.
fn conditions(text: &str) -> impl Iterator<Item = &str> {
    text.split("feature = \"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0))
}

/// Returns each pair of features that change what is compiled, without those of which one turns the
/// other on: such a pair is that one alone.
fn pairs<'a>(features: &'a Table, named: &BTreeSet<String>) -> Vec<(&'a str, &'a str)> {
    let names: Vec<&str> =
        features.keys().map(String::as_str).filter(|name| named.contains(*name)).collect();
    let turns_on = |one: &str, other: &str| {
        let list = features.get(one).and_then(toml::Value::as_array);
        list.is_some_and(|list| list.iter().any(|item| item.as_str() == Some(other)))
    };
    let mut pairs = Vec::new();
    for (index, right) in names.iter().enumerate() {
        for left in &names[..index] {
            if !turns_on(left, right) && !turns_on(right, left) {
                pairs.push((*left, *right));
            }
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_of_features_that_do_something_and_not_of_those_that_include_each_other() {
        let manifest: Table =
            "a = []\nb = [\"a\", \"dep:x\"]\nc = []\nalias = [\"c\"]".parse().unwrap();
        let code = "#[cfg(all(feature = \"a\", not(feature = \"b\")))] cfg!(feature = \"c\")";
        let named: BTreeSet<String> = conditions(code).map(str::to_owned).collect();
        assert_eq!(pairs(&manifest, &named), [("a", "c"), ("b", "c")]);
    }

    #[test]
    fn the_library_has_features_and_names_most_of_them() {
        let (features, named) = (read_features().unwrap(), named_in_code().unwrap());
        assert!(!features.contains_key("default"));
        assert!(named.contains("tokio") && !named.contains("full"), "{named:?}");
        let unknown: Vec<_> =
            named.iter().filter(|name| !features.contains_key(name.as_str())).collect();
        assert!(unknown.is_empty(), "conditions on features that do not exist: {unknown:?}");
    }
}
