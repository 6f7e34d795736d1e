//! `cargo xtask init`: `keepd-init` as one static file, which needs nothing but a kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::outcome::{Failure, Verdict, no_arguments};
use crate::workspace::{cannot_run, cargo, root, run as run_program, target};

/// The profile in the root manifest, which also names cargo's folder.
const PROFILE: &str = "init";
const PROGRAM: &str = "keepd-init";

/// The C library becomes part of the file, and the file is at home at a fixed address: no loader
/// runs and no pointer is adjusted before the first instruction.
const FLAGS: [&str; 2] = ["-Ctarget-feature=+crt-static", "-Crelocation-model=static"];

/// Runs the command, and says where the program is and how large.
pub(crate) fn run(arguments: &[String]) -> Result<Verdict, Failure> {
    no_arguments("init", arguments)?;
    let Some(path) = build()? else {
        return Ok(Verdict::No);
    };
    let size = fs::metadata(&path).map_err(|error| {
        Failure::System(format!("cannot look at \"{}\": {error}", path.display()))
    })?;
    println!("{} ({} KiB)", path.display(), size.len().div_ceil(1024));
    Ok(Verdict::Yes)
}

/// Builds the program and returns its path; `None` if it does not build.
pub(crate) fn build() -> Result<Option<PathBuf>, Failure> {
    let triple = triple()?;
    let target = target()?;
    // The flags hold for this triple alone, and not for what cargo runs while it builds.
    let mut build = cargo("build --quiet --package keepd-proxy --bin");
    build
        .args([PROGRAM, "--profile", PROFILE, "--target", &triple, "--target-dir"])
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    if !run_program(&mut build)?.success() {
        return Ok(None);
    }
    let built = target.join(&triple).join(PROFILE).join(PROGRAM);
    let folder = target.join(PROFILE);
    let path = folder.join(PROGRAM);
    // A copy in place would fail while the program runs, and tear it for who starts it meanwhile.
    let new = folder.join("keepd-init.new");
    fs::create_dir_all(&folder)
        .and_then(|()| fs::copy(&built, &new))
        .and_then(|_| fs::rename(&new, &path))
        .map_err(|error| Failure::System(format!("cannot make \"{}\": {error}", path.display())))?;
    Ok(Some(path))
}

/// Returns the triple to build for: with musl, which is made for static programs, so that the file
/// is little more than half as large. rustup gets it where it can. Without it, glibc will do.
fn triple() -> Result<String, Failure> {
    let host = host()?;
    let Some(musl) = musl_of(&host) else {
        return Ok(host);
    };
    if !has_library(&musl)? {
        // Not every toolchain is rustup's, and not every machine has a network.
        let _ = Command::new("rustup")
            .args(["target", "add", &musl])
            .current_dir(root())
            .stdin(Stdio::null())
            .status();
    }
    if has_library(&musl)? {
        return Ok(musl);
    }
    eprintln!(
        "cargo xtask init: no standard library for {musl}: building for {host}, for which the \
         file is larger (hint: rustup target add {musl})"
    );
    Ok(host)
}

fn musl_of(host: &str) -> Option<String> {
    Some(format!("{}-musl", host.strip_suffix("-gnu")?))
}

/// Reports whether the compiler has the standard library for a triple.
fn has_library(triple: &str) -> Result<bool, Failure> {
    let text = ask_rustc(&["--print", "target-libdir", "--target", triple])?;
    Ok(Path::new(text.trim()).is_dir())
}

/// Returns the triple for which this machine's compiler builds.
fn host() -> Result<String, Failure> {
    let text = ask_rustc(&["-vV"])?;
    host_of(&text).ok_or_else(|| Failure::System("cannot find the host of \"rustc\"".to_owned()))
}

/// Returns what the compiler says.
fn ask_rustc(words: &[&str]) -> Result<String, Failure> {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut rustc = Command::new(compiler);
    rustc.args(words).current_dir(root());
    let output = rustc.output().map_err(|error| cannot_run(&rustc, &error))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn host_of(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_a_line_of_the_version() {
        let text = "rustc 1.95.0\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0\n";
        assert_eq!(host_of(text).as_deref(), Some("x86_64-unknown-linux-gnu"));
        assert_eq!(host_of("release: 1.95.0\n"), None);
    }

    #[test]
    fn musl_takes_the_place_of_the_gnu_library() {
        let musl = musl_of("aarch64-unknown-linux-gnu");
        assert_eq!(musl.as_deref(), Some("aarch64-unknown-linux-musl"));
        assert_eq!(musl_of("x86_64-unknown-linux-musl"), None);
    }
}
