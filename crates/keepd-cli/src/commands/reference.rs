//! `keepd __reference`: the generated pages of the documentation, printed as Markdown.

use clap::{Args, Command, CommandFactory, ValueEnum};
use keepd_model::{Apply, ExitCode, Health, Reason, State};
use keepd_plan::{KeyDoc, Section, keys};

use crate::arguments::CommandLine;
use crate::error::CliError;
use crate::output::Screen;

/// Print a page of the reference
#[derive(Args, Debug)]
pub(crate) struct ReferenceOptions {
    /// Print this page
    topic: Topic,
}

/// The pages.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Topic {
    /// Verbs and options
    Cli,
    /// Keys of keepd.toml
    Config,
    /// States, health, reasons and exit codes
    States,
}

/// What stands above each page.
const GENERATED: &str =
    "<!-- Written by `cargo xtask codegen`. Change the program instead. -->\n\n";

/// Runs the verb.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn run(options: &ReferenceOptions) -> Result<ExitCode, CliError> {
    let page = match options.topic {
        Topic::Cli => command_line(),
        Topic::Config => configuration(),
        Topic::States => states(),
    };
    let mut screen = Screen::stdout();
    screen.text(GENERATED)?;
    // Exactly one line end closes a page.
    screen.line(page.trim_end())?;
    screen.flush()?;
    Ok(ExitCode::Done)
}

fn command_line() -> String {
    let mut command = CommandLine::command();
    // Building gives every verb the options of all, which are listed once.
    command.build();
    let mut page = String::from("# Command line\n\n");
    if let Some(about) = command.get_long_about() {
        page.push_str(&format!("{about}\n\n"));
    }
    page.push_str("## Options of every verb\n\n");
    options_table(&mut page, &command, true);
    page.push_str("## Verbs\n\n");
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        verb_section(&mut page, verb, "keepd", 3);
    }
    if let Some(after) = command.get_after_help() {
        let after = after.to_string();
        let codes = after.lines().skip_while(|line| !line.starts_with("SELECTOR"));
        page.push_str("## Selectors and exit codes\n\n");
        page.push_str(&codes.collect::<Vec<_>>().join("\n"));
    }
    page
}

fn verb_section(page: &mut String, verb: &Command, parent: &str, level: usize) {
    let name = format!("{parent} {}", verb.get_name());
    let usage = verb.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let about = verb.get_long_about().or(verb.get_about());
    page.push_str(&format!("{} `{name}`\n\n", "#".repeat(level)));
    if let Some(about) = about {
        page.push_str(&format!("{}.\n\n", about.to_string().trim_end_matches('.')));
    }
    page.push_str(&format!("```text\n{usage}\n```\n\n"));
    options_table(page, verb, false);
    for inner in verb.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        verb_section(page, inner, &name, level + 1);
    }
}

/// Appends a table of the arguments of a command: those of every verb, or its own.
fn options_table(page: &mut String, command: &Command, global: bool) {
    let arguments: Vec<_> = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set() && argument.is_global_set() == global)
        .filter(|argument| argument.get_id() != "help" || global)
        .collect();
    if arguments.is_empty() {
        return;
    }
    page.push_str("| argument | does | default |\n| --- | --- | --- |\n");
    for argument in arguments {
        let help = argument.get_long_help().or(argument.get_help());
        let help = help.map(ToString::to_string).unwrap_or_default();
        // Clap's long help has paragraphs, and a cell has one.
        let help = help.replace("\n\n", ". ");
        let words: Vec<&str> = help.split_whitespace().collect();
        let defaults: Vec<String> = argument
            .get_default_values()
            .iter()
            .map(|value| format!("`{}`", value.display()))
            .filter(|_| argument.get_action().takes_values())
            .collect();
        let short = argument.get_short().map(|letter| format!("-{letter}, "));
        let written = cell(&format!("{}{argument}", short.unwrap_or_default()));
        page.push_str(&format!(
            "| `{written}` | {} | {} |\n",
            cell(&words.join(" ")),
            defaults.join(", ")
        ));
    }
    page.push('\n');
}

fn configuration() -> String {
    let mut page = String::from(
        "# Keys of keepd.toml\n\n\
         A change takes effect on `keepd apply`: `live` at once, `restart` by a restart of the \
         service, `next-start` at its next start.\n\n",
    );
    for (section, title) in [
        (Section::Top, "The file"),
        (Section::Keepd, "`[keepd]`"),
        (Section::Service, "`[services.NAME]` and `[defaults]`"),
        (Section::Edge, "`[services.NAME.depends_on.NAME]`"),
    ] {
        page.push_str(&format!("## {title}\n\n"));
        page.push_str("| key | value | default | meaning | change |\n");
        page.push_str("| --- | --- | --- | --- | --- |\n");
        for doc in keys().iter().filter(|doc| doc.section == section) {
            page.push_str(&key_row(doc));
        }
        page.push('\n');
    }
    page
}

fn key_row(doc: &KeyDoc) -> String {
    format!(
        "| `{}` | {} | {} | {} | {} |\n",
        cell(doc.key),
        cell(doc.value),
        cell(doc.default),
        cell(doc.meaning),
        doc.apply.map_or("-", Apply::word)
    )
}

/// Returns a text that does not end a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn states() -> String {
    let words = |words: Vec<(&'static str, &'static str)>| {
        words.into_iter().map(|(word, meaning)| (word.to_owned(), meaning)).collect()
    };
    let sections: [(&str, Vec<(String, &str)>); 4] = [
        ("States", words(State::ALL.iter().map(|word| (word.word(), state(*word))).collect())),
        ("Health", words(Health::ALL.iter().map(|word| (word.word(), health(*word))).collect())),
        ("Reasons", words(Reason::ALL.iter().map(|word| (word.word(), reason(*word))).collect())),
        (
            "Exit codes",
            EXIT_CODES.iter().map(|code| (code.get().to_string(), exit_code(*code))).collect(),
        ),
    ];
    let mut page = String::from("# States, health, reasons and exit codes\n\n");
    for (title, rows) in sections {
        page.push_str(&format!("## {title}\n\n| word | meaning |\n| --- | --- |\n"));
        for (word, meaning) in rows {
            page.push_str(&format!("| `{word}` | {meaning} |\n"));
        }
        page.push('\n');
    }
    page.push_str(
        "A foreground `keepd up` or `keepd run` that a service ends (`shutdown_on`) exits with the \
         status of that service: its code, or 128 and the signal.\n",
    );
    page
}

const fn state(state: State) -> &'static str {
    match state {
        State::Stopped => "wanted down, no process",
        State::Waiting => "wanted up; a dependency is missing",
        State::Scheduled => "wanted up; the next run has a time",
        State::Starting => "a process exists or is being made, and is not ready",
        State::Ready => "ready",
        State::Stopping => "asked to end, and something of it is still there",
        State::Backoff => "ended; the next start has a time",
        State::Done => "ended with success and stays so",
        State::Failed => "ended, and not started again without a command or a changed file",
        State::Stuck => "did not end after KILL",
        State::Unknown => "lost by a double fault; `keepd why` says more",
    }
}

const fn health(health: Health) -> &'static str {
    match health {
        Health::None => "there is no check",
        Health::Pending => "a check exists and has not answered yet",
        Health::Healthy => "it answers",
        Health::Unhealthy => "it failed often enough in a row",
    }
}

const fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Operator => "somebody asked for it",
        Reason::Config => "the configuration says so, or was refused",
        Reason::Dependency => "another service made it so",
        Reason::Schedule => "its schedule",
        Reason::Exit => "the main process exited",
        Reason::Signal => "a signal ended the main process",
        Reason::Oom => "the out-of-memory killer",
        Reason::ReadyTimeout => "it did not become ready in time",
        Reason::Health => "its health check failed",
        Reason::Watchdog => "it did not feed its watchdog",
        Reason::MaxRuntime => "it ran longer than allowed",
        Reason::ExecError => "it could not be executed at all",
        Reason::Hook => "a hook failed",
        Reason::Limit => "it was restarted too often",
        Reason::Shutdown => "everything is being stopped",
        Reason::Unknown => "nobody knows",
    }
}

/// The codes of keepd's own programs; [`ExitCode::Service`] is the status of a service.
const EXIT_CODES: [ExitCode; 8] = [
    ExitCode::Done,
    ExitCode::No,
    ExitCode::NotRunning,
    ExitCode::NoSuchService,
    ExitCode::Caller,
    ExitCode::System,
    ExitCode::Timeout,
    ExitCode::Interrupted,
];

const fn exit_code(code: ExitCode) -> &'static str {
    match code {
        ExitCode::Done => "done, or the answer is yes",
        ExitCode::No => "the answer is no, or the wanted state was not reached",
        ExitCode::NotRunning => "the service is not running",
        ExitCode::NoSuchService => "there is no such service",
        ExitCode::Caller => "the caller's fault: usage, a bad file, not allowed",
        ExitCode::System => "the system's fault: no manager, input or output, protocol",
        ExitCode::Timeout => "`--timeout` is over; the action goes on",
        ExitCode::Interrupted => "interrupted; the action goes on",
        ExitCode::Service(_) => "the status of a service that ended everything",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_name_everything() {
        let page = command_line();
        for verb in ["up", "status", "logs", "check", "demo web"] {
            assert!(page.contains(&format!("`keepd {verb}`")), "{verb}");
        }
        assert!(page.contains("| `-o, --output <FORMAT>` |"));
        assert!(!page.contains("__"), "hidden verbs stay hidden");
        let page = states();
        assert!(page.contains("| `backoff` |") && page.contains("| `111` |"), "{page}");
        let page = configuration();
        for doc in keys() {
            assert!(page.contains(&format!("| `{}` |", doc.key)), "{}", doc.key);
        }
    }
}
