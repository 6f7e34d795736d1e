//! What the definition of the command line cannot say: where names of services are wanted.

use clap::Command;
use keepd_model::Signal;

use crate::aim::Aim;

/// The placeholders of positional arguments that name services.
const SERVICES: [&str; 2] = ["SELECTOR", "NAME"];

/// A verb that takes names of services.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// The verb.
    pub(super) verb: String,
    /// Words that may stand there, too.
    pub(super) words: Vec<&'static str>,
}

/// Reports whether an argument names services.
pub(super) fn names_services(argument: &clap::Arg) -> bool {
    let names = argument.get_value_names().unwrap_or_default();
    argument.is_positional() && names.iter().any(|name| SERVICES.contains(&name.as_str()))
}

/// Returns every verb that takes names of services.
pub(super) fn offers(command: &Command) -> Vec<Offer> {
    let verbs = command.get_subcommands();
    let verbs = verbs.filter(|verb| verb.get_positionals().any(names_services));
    verbs
        .map(|verb| {
            let words = match verb.get_name() {
                "wait" | "is" => Aim::words().collect(),
                "signal" => Signal::names().collect(),
                _ => Vec::new(),
            };
            Offer { verb: verb.get_name().to_owned(), words }
        })
        .collect()
}

/// Returns the options that take a value, of all verbs, as they are typed.
pub(super) fn options_with_value(command: &Command) -> Vec<String> {
    let all = std::iter::once(command).chain(command.get_subcommands());
    let options = all.flat_map(Command::get_opts).flat_map(|option| {
        let short = option.get_short().map(|letter| format!("-{letter}"));
        let long = option.get_long().map(|word| format!("--{word}"));
        short.into_iter().chain(long)
    });
    let mut options: Vec<String> = options.collect();
    options.sort_unstable();
    options.dedup();
    options
}
