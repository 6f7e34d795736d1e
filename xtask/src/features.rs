//! `cargo xtask features`: the library builds with each feature alone, with none, with all, and on
//! request with each pair.

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
    let names = features()?;
    let mut sets = vec![String::new()];
    for (index, name) in names.iter().enumerate() {
        sets.push(name.clone());
        let pairs = names[..index].iter().filter(|_| with_pairs);
        sets.extend(pairs.map(|other| format!("{other},{name}")));
    }
    sets.push(names.join(","));
    let count = sets.len();
    let mut failed = Vec::new();
    for set in sets {
        // As clippy, because its flags do not build the dependencies anew.
        let call = "clippy --quiet --package keepd --no-default-features --features";
        if !workspace::run(cargo(call).args([&set, "--", "-Dwarnings"]))?.success() {
            failed.push(if set.is_empty() { "none".to_owned() } else { set });
        }
    }
    for set in &failed {
        println!("FAILED with these features: {set}");
    }
    println!("cargo xtask features: {} of {count} sets build", count - failed.len());
    Ok(Verdict::from_good(failed.is_empty()))
}

/// Returns the features that the manifest of the library names.
fn features() -> Result<Vec<String>, Failure> {
    let path = root().join("crates/keepd/Cargo.toml");
    let broken = |why: String| Failure::System(format!("cannot read {path:?}: {why}"));
    let text = std::fs::read_to_string(&path).map_err(|error| broken(error.to_string()))?;
    let manifest: Table =
        text.parse().map_err(|error: toml::de::Error| broken(error.to_string()))?;
    let features = manifest.get("features").and_then(toml::Value::as_table);
    let features = features.ok_or_else(|| broken("it has no [features]".to_owned()))?;
    Ok(features.keys().filter(|name| *name != "default").cloned().collect())
}
