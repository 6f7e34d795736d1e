//! The project of a torture run.

use std::fmt::Write as _;

use super::{Kind, LIFE, REMEMBERED};

/// The file that a flaky service executes, in the folder of the project: now there, now not.
pub const FLAKY: &str = "flaky-program";

/// A service of the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Its name.
    pub(super) name: String,
    /// How it lives.
    pub(super) kind: Kind,
    /// It executes [`FLAKY`].
    pub(super) is_flaky: bool,
}

/// What comes in turn: of twelve, five live for milliseconds.
const TURN: [(Kind, bool); 12] = [
    (Kind::Short, false),
    (Kind::Writer, false),
    (Kind::Long, false),
    (Kind::Short, false),
    (Kind::Family, false),
    (Kind::Short, false),
    (Kind::Writer, false),
    (Kind::Short, true),
    (Kind::Long, false),
    (Kind::Short, false),
    (Kind::Steady, false),
    (Kind::Writer, false),
];

/// These are started again soon, however often they end.
const HOT: [&str; 2] = ["short00", "writer01"];

/// Returns the services of a run.
pub(super) fn members(services: usize) -> Vec<Member> {
    let kinds = TURN.iter().cycle().take(services).enumerate();
    kinds
        .map(|(number, (kind, is_flaky))| {
            let word = if *is_flaky { "flaky" } else { kind.word() };
            Member { name: format!("{word}{number:02}"), kind: *kind, is_flaky: *is_flaky }
        })
        .collect()
}

/// Returns the `keepd.toml` of these services. `program` is the test service.
pub(super) fn configuration(seed: u64, members: &[Member], program: &str) -> String {
    let mut text = format!(
        "version = 1\n\
         [keepd]\n\
         history = {REMEMBERED}\n\
         [defaults]\n\
         restart = \"always\"\n\
         ready.delay = \"0s\"\n\
         backoff_initial = \"200ms\"\n\
         backoff_factor = 1.5\n\
         backoff_max = \"600ms\"\n\
         log.mode = \"null\"\n"
    );
    for member in members {
        let Member { name, kind, is_flaky } = member;
        let program = if *is_flaky { format!("./{FLAKY}") } else { program.to_owned() };
        let command = format!("['{program}', '{LIFE}', '{seed}', '{}']", kind.word());
        write!(text, "\n[services.{name}]\ncommand = {command}\n")
            .expect("a String takes every text");
        if *kind == Kind::Writer {
            text += "log.mode = \"file\"\n";
        }
        if HOT.contains(&name.as_str()) {
            text += "backoff_initial = \"50ms\"\nbackoff_max = \"50ms\"\n";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_as_were_asked_for_and_of_every_kind() {
        let members = members(64);
        assert_eq!(members.len(), 64);
        for kind in Kind::ALL {
            assert!(members.iter().filter(|member| member.kind == kind).count() >= 4, "{kind:?}");
        }
        assert!(members.iter().filter(|member| member.is_flaky).count() >= 4);
    }

    #[test]
    fn each_has_its_section_and_its_life() {
        let text = configuration(7, &members(12), "/test-service");
        assert_eq!(text.matches("backoff_max = \"50ms\"").count(), HOT.len(), "{text}");
        let command = "command = ['/test-service', '--torture', '7', 'steady']";
        assert!(text.contains(command), "{text}");
        assert!(text.contains("command = ['./flaky-program', '--torture', '7', 'short']"));
        assert_eq!(text.matches("log.mode = \"file\"").count(), 3);
    }
}
