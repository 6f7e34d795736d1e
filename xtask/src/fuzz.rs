//! `cargo xtask fuzz`: libFuzzer against one decoder, or against each in turn.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::nearest::nearest;
use crate::outcome::{Failure, Verdict};
use crate::workspace::{find_program, root, run as run_program};

/// How long each target runs where nothing is said.
const SECONDS: u32 = 60;
/// The longest input in bytes. What is read is bounded, and longer ones only take longer.
const INPUT_BYTES_MAX: u32 = 4096;

/// What the words after `fuzz` ask for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    target: Option<String>,
    seconds: u32,
}

/// Runs the command. What is found is kept below `fuzz/target/found`; an input on which a target
/// fails is kept in `fuzz/artifacts`, and named.
pub(crate) fn run(arguments: &[String]) -> Result<Verdict, Failure> {
    let Options { target, seconds } = parse(arguments)?;
    let folder = root().join("fuzz");
    let all = targets(&folder)?;
    let chosen = match target {
        Some(name) => vec![choose(name, &all)?],
        None => all,
    };
    let (Some(rustup), Some(_)) = (find_program("rustup"), find_program("cargo-fuzz")) else {
        let message = "cannot find \"cargo-fuzz\" and \"rustup\": `cargo install cargo-fuzz` \
                       provides one, `rustup toolchain install nightly` the compiler for it";
        return Err(Failure::System(message.to_owned()));
    };
    for name in chosen {
        let found = format!("target/found/{name}");
        fs::create_dir_all(folder.join(&found))
            .map_err(|error| Failure::System(format!("cannot make \"fuzz/{found}\": {error}")))?;
        let mut fuzzer = Command::new(&rustup);
        fuzzer.current_dir(&folder).stdin(Stdio::null());
        // The first folder gets what is found; the corpus is only read.
        fuzzer.args(["run", "nightly", "cargo", "fuzz", "run", &name, &found]);
        fuzzer.arg(format!("corpus/{name}")).arg("--");
        fuzzer.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={INPUT_BYTES_MAX}"));
        if !run_program(&mut fuzzer)?.success() {
            println!("cargo xtask fuzz: FAILED: target \"{name}\"");
            return Ok(Verdict::No);
        }
    }
    println!("cargo xtask fuzz: ok");
    Ok(Verdict::Yes)
}

/// Reads `[TARGET] [--seconds N]`.
fn parse(arguments: &[String]) -> Result<Options, Failure> {
    let mut options = Options { target: None, seconds: SECONDS };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => {
                let number = words.next().and_then(|number| number.parse().ok());
                // 0 is "for ever" to libFuzzer.
                options.seconds = number.filter(|seconds| *seconds > 0).ok_or_else(|| {
                    Failure::Usage("cannot take \"--seconds\": a number from 1 follows".to_owned())
                })?;
            }
            name if !name.starts_with('-') && options.target.is_none() => {
                options.target = Some(name.to_owned());
            }
            other => {
                return Err(Failure::Usage(format!(
                    "cannot take argument \"{other}\": `cargo xtask fuzz [TARGET] [--seconds N]`"
                )));
            }
        }
    }
    Ok(options)
}

/// Returns the names of all targets, in order.
fn targets(folder: &Path) -> Result<Vec<String>, Failure> {
    let cannot = |error| Failure::System(format!("cannot read \"fuzz/fuzz_targets\": {error}"));
    let mut names = Vec::new();
    for entry in fs::read_dir(folder.join("fuzz_targets")).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

fn choose(name: String, all: &[String]) -> Result<String, Failure> {
    if all.contains(&name) {
        return Ok(name);
    }
    let hint = nearest(&name, all.iter().map(String::as_str)).map_or_else(
        || format!("there are {}", all.join(", ")),
        |nearest| format!("the nearest is \"{nearest}\""),
    );
    Err(Failure::Usage(format!("cannot find target \"{name}\": {hint}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_target_and_a_time_may_be_given() {
        let options = |target: Option<&str>, seconds| {
            Ok(Options { target: target.map(str::to_owned), seconds })
        };
        assert_eq!(parse(&[]), options(None, SECONDS));
        assert_eq!(parse(&words("index --seconds 5")), options(Some("index"), 5));
        assert_eq!(parse(&words("--seconds 5 index")), options(Some("index"), 5));
        for wrong in ["--seconds", "--seconds 0", "--seconds x", "--fast", "index stream"] {
            assert!(matches!(parse(&words(wrong)), Err(Failure::Usage(_))), "{wrong}");
        }
    }

    #[test]
    fn a_mistyped_target_hears_the_nearest() {
        let all = targets(&root().join("fuzz")).unwrap();
        assert_eq!(choose("index".to_owned(), &all), Ok("index".to_owned()));
        let failure = choose("indx".to_owned(), &all).unwrap_err().to_string();
        assert!(failure.contains("the nearest is \"index\""), "{failure}");
        let failure = choose("xylophone".to_owned(), &all).unwrap_err().to_string();
        assert!(failure.contains("configuration, "), "{failure}");
    }
}
