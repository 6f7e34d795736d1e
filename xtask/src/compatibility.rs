//! `cargo xtask compatibility`: what was written for proc-daemon compiles and passes with this
//! library in its place, and only a line of the manifest changed.
//!
//! The programs are proc-daemon's own examples and tests, from its package in the registry, and our
//! example for its users. None of the former is copied into this checkout.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::outcome::{Failure, Verdict, no_arguments};
use crate::workspace::{self, cargo, root};

/// The package whose programs are tried.
const PACKAGE: &str = "proc-daemon";
const VERSION: &str = "1.1.3";

/// A manifest that only brings the package.
const BRINGS_PACKAGE: &str = "\
[package]
name = \"original\"
version = \"0.0.0\"
edition = \"2021\"

[workspace]

[dependencies]
proc-daemon = \"=1.1.3\"
";

/// The manifest of the programs. Features are those of the programs themselves, which ask for them.
const PROGRAMS: &str = "\
[package]
name = \"programs-for-proc-daemon\"
version = \"0.0.0\"
edition = \"2021\"

[workspace]

[lints.rust]
unexpected_cfgs = \"allow\"

[features]
default = [\"tokio\", \"toml\", \"metrics\"]
tokio = []
toml = []
metrics = []

[dependencies]
proc-daemon = { package = \"keepd\", path = \"KEEPD\", features = [\"full\"] }
fastrand = \"2\"
tokio = { version = \"1\", features = [\"full\"] }
tracing = \"0.1\"
tracing-subscriber = \"0.3\"
";

/// The line of our own example by which it takes this library under the old name.
const ALIAS: &str = "use keepd as proc_daemon;\n";

/// Runs the command.
pub(crate) fn run(arguments: &[String]) -> Result<Verdict, Failure> {
    no_arguments("compatibility", arguments)?;
    let folder = workspace::target()?.join("compatibility");
    let Some(original) = find_package(&folder.join("original"))? else {
        println!(
            "NOT CHECKED: programs for {PACKAGE}, because the registry does not give its version \
             {VERSION}"
        );
        return Ok(Verdict::Yes);
    };
    let programs = folder.join("programs");
    lay_out(&original, &programs)?;
    let mut tests = cargo("test --quiet --no-fail-fast");
    tests.current_dir(&programs).env("CARGO_TARGET_DIR", folder.join("target"));
    let good = workspace::run(&mut tests)?.success();
    let word = if good { "ok" } else { "FAILED" };
    println!("cargo xtask compatibility: {word}. Programs for {PACKAGE} {VERSION}");
    Ok(Verdict::from_good(good))
}

/// Returns the folder of the package's sources, or none if the registry cannot be asked.
fn find_package(project: &Path) -> Result<Option<PathBuf>, Failure> {
    write(&project.join("Cargo.toml"), BRINGS_PACKAGE)?;
    write(&project.join("src/lib.rs"), "")?;
    let mut metadata = cargo("metadata --quiet --format-version 1");
    metadata.current_dir(project);
    let output = metadata.output().map_err(|error| workspace::cannot_run(&metadata, &error))?;
    if !output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let folder = folder_in(&text);
    let missing = || Failure::System(format!("cannot find {PACKAGE} in what cargo says of it"));
    folder.map(PathBuf::from).map(Some).ok_or_else(missing)
}

/// Returns the folder of the package from cargo's metadata.
fn folder_in(metadata: &str) -> Option<&str> {
    let end = format!("/{PACKAGE}-{VERSION}/Cargo.toml");
    let paths = metadata.split("\"manifest_path\":\"").skip(1);
    let mut paths = paths.filter_map(|rest| Some(rest.split_once('"')?.0));
    paths.find(|path| path.ends_with(&end))?.strip_suffix("/Cargo.toml")
}

/// Puts the programs into a project of their own.
fn lay_out(original: &Path, project: &Path) -> Result<(), Failure> {
    let library = root().join("crates/keepd");
    let manifest = PROGRAMS.replace("KEEPD", &library.to_string_lossy());
    write(&project.join("Cargo.toml"), &manifest)?;
    // The versions that the library itself is tested with.
    write(&project.join("Cargo.lock"), &read(&root().join("Cargo.lock"))?)?;
    write(&project.join("src/lib.rs"), "")?;
    for file in [
        "examples/simple.rs",
        "examples/comprehensive.rs",
        "examples/hot_reload.rs",
        "examples/metrics_server.rs",
        "tests/integration.rs",
    ] {
        write(&project.join(file), &read(&original.join(file))?)?;
    }
    let own = library.join("examples/pd_compat.rs");
    let text = read(&own)?;
    let Some((before, after)) = text.split_once(ALIAS) else {
        return Err(Failure::System(format!("cannot find {ALIAS:?} in {own:?}")));
    };
    write(&project.join("examples/pd_compat.rs"), &format!("{before}{after}"))
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| cannot("read", path, &error))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(root());
    fs::create_dir_all(folder).map_err(|error| cannot("create", folder, &error))?;
    fs::write(path, text).map_err(|error| cannot("write", path, &error))
}

fn cannot(verb: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::System(format!("cannot {verb} \"{}\": {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_is_found_in_what_cargo_says() {
        let text = r#"{"packages":[{"manifest_path":"/r/notify-6/Cargo.toml"},
            {"name":"x","manifest_path":"/r/proc-daemon-1.1.3/Cargo.toml","metadata":null}]}"#;
        assert_eq!(folder_in(text), Some("/r/proc-daemon-1.1.3"));
        assert_eq!(folder_in("{}"), None);
        assert!(BRINGS_PACKAGE.contains(&format!("{PACKAGE} = \"={VERSION}\"")));
    }
}
