//! `cargo xtask codegen`: pages that the program itself can write, so that they are never out of
//! date.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::outcome::{Failure, Verdict};
use crate::workspace::{self, cargo};

/// The folder of the pages, below the root.
const FOLDER: &str = "docs/generated";

/// A page, and the topic under which the hidden verb `keepd __reference TOPIC` prints it.
struct Page {
    file: &'static str,
    topic: &'static str,
}

const PAGES: [Page; 3] = [
    Page { file: "cli.md", topic: "cli" },
    Page { file: "keepd-toml.md", topic: "config" },
    Page { file: "states.md", topic: "states" },
];

/// Runs the command: writes the pages, or with `--check` compares them.
pub(crate) fn run(arguments: &[String]) -> Result<Verdict, Failure> {
    let check_only = match arguments {
        [] => false,
        [option] if option == "--check" => true,
        [argument, ..] => {
            return Err(Failure::Usage(format!(
                "cannot take argument \"{argument}\": `cargo xtask codegen` knows only --check"
            )));
        }
    };
    let folder = workspace::root().join(FOLDER);
    if !check_only {
        fs::create_dir_all(&folder).map_err(|error| cannot("create", &folder, &error))?;
    }
    let mut good = true;
    for page in &PAGES {
        let path = folder.join(page.file);
        let generated = generate(page)?;
        if check_only {
            good &= is_current(&path, page.file, &generated)?;
        } else {
            fs::write(&path, generated).map_err(|error| cannot("write", &path, &error))?;
            println!("wrote {FOLDER}/{}", page.file);
        }
    }
    good &= report_strangers(&folder)?;
    Ok(Verdict::from_good(good))
}

/// Asks the program for one page.
fn generate(page: &Page) -> Result<String, Failure> {
    let mut keepd = cargo("run --quiet --package keepd-cli -- __reference");
    keepd.arg(page.topic).stderr(std::process::Stdio::inherit());
    let output = keepd.output().map_err(|error| workspace::cannot_run(&keepd, &error))?;
    let reason = if output.status.success() {
        match String::from_utf8(output.stdout) {
            Ok(text) if !text.trim().is_empty() => return Ok(text),
            Ok(_) => "it printed nothing".to_owned(),
            Err(_) => "it printed text that is not UTF-8".to_owned(),
        }
    } else {
        output.status.to_string()
    };
    Err(Failure::System(format!(
        "cannot generate \"{FOLDER}/{}\" with `keepd __reference {}`: {reason}",
        page.file, page.topic
    )))
}

/// Compares a page with what stands in the checkout, and says where they part.
fn is_current(path: &Path, file: &str, generated: &str) -> Result<bool, Failure> {
    let present = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(cannot("read", path, &error)),
    };
    match first_difference(&present, generated) {
        None => Ok(true),
        Some(line) => {
            println!(
                "{FOLDER}/{file}:{line}: the page differs from what the program says: \
                 run cargo xtask codegen, and commit the result"
            );
            Ok(false)
        }
    }
}

/// Returns the number of the first line in which two texts differ.
fn first_difference(left: &str, right: &str) -> Option<usize> {
    if left == right {
        return None;
    }
    let same = left
        .split_inclusive('\n')
        .zip(right.split_inclusive('\n'))
        .take_while(|(left, right)| left == right)
        .count();
    Some(same + 1)
}

/// Names files in the folder that no page of ours explains; one is a page whose topic was removed.
fn report_strangers(folder: &Path) -> Result<bool, Failure> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(cannot("read", folder, &error)),
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(|error| cannot("read", folder, &error))?;
        names.insert(entry.file_name().to_string_lossy().into_owned());
    }
    for page in &PAGES {
        names.remove(page.file);
    }
    for name in &names {
        println!(
            "{FOLDER}/{name}: nothing generates this file: delete it, or add it to \
             xtask/src/codegen.rs"
        );
    }
    Ok(names.is_empty())
}

fn cannot(verb: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::System(format!("cannot {verb} \"{}\": {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_a_line_number() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some(2));
        assert_eq!(first_difference("a\n", "a\nb\n"), Some(2));
        assert_eq!(first_difference("a\nb", "a\nb\n"), Some(2));
        assert_eq!(first_difference("", "a\n"), Some(1));
    }

    #[test]
    fn options_are_checked() {
        let failure = run(&["--chek".to_owned()]).unwrap_err();
        assert!(matches!(failure, Failure::Usage(_)));
    }
}
