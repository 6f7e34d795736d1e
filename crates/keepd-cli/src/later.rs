//! What is documented but not built yet. It is refused by name, never ignored.

/// Verbs of later versions.
pub(crate) const VERBS: [&str; 14] = [
    "analyze", "disable", "enable", "exec", "export", "graph", "import", "jobs", "new", "notify",
    "scale", "submit", "top", "upgrade",
];

/// Options of later versions, of whichever verb.
pub(crate) const OPTIONS: [&str; 3] = ["--one-by-one", "--order", "--usage"];

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::arguments::CommandLine;

    #[test]
    fn nothing_that_is_built_is_called_later() {
        let command = CommandLine::command();
        for verb in command.get_subcommands() {
            assert!(!VERBS.contains(&verb.get_name()), "{}", verb.get_name());
            for option in verb.get_arguments().filter_map(|argument| argument.get_long()) {
                assert!(!OPTIONS.contains(&format!("--{option}").as_str()), "{option}");
            }
        }
    }
}
