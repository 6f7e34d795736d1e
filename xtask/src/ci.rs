//! `cargo xtask ci`: everything that a merge needs.

use crate::outcome::{Failure, Verdict, no_arguments};
use crate::steps::Steps;
use crate::workspace::{cargo, find_program};
use crate::{api, check, codegen, compatibility, features, init, loom, test};

/// Runs the command.
pub(crate) fn run(arguments: &[String]) -> Result<Verdict, Failure> {
    no_arguments("ci", arguments)?;
    let mut steps = Steps::new("ci");
    steps.run("check", || check::run(&[]));
    steps.run("codegen --check", || codegen::run(&["--check".to_owned()]));
    steps.run("features", || features::run(&[]));
    steps.run("api --check", || api::run(&["--check".to_owned()]));
    steps.run("loom", || loom::run(&[]));
    steps.run("test", || test::run(&[]));
    steps.run("compatibility", || compatibility::run(&[]));
    steps.run("init", || init::run(&[]));
    let deny = find_program("cargo-deny").is_some();
    if deny {
        steps.run_program("deny", &mut cargo("deny check bans licenses sources"));
        let library = "deny --manifest-path bench/library/Cargo.toml check bans licenses sources";
        steps.run_program("deny, bench/library", &mut cargo(library));
    }
    let verdict = steps.finish();
    if !deny {
        println!(
            "NOT CHECKED: bans, licences and sources of dependencies, because cargo-deny is not \
             installed (cargo install --locked cargo-deny)"
        );
    }
    Ok(verdict)
}
