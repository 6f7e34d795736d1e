//! What an apply does, or would do, as lines.

use std::io::{self, IsTerminal};

use keepd_manager::api::types::{DiagnosticObject, StepObject};

use crate::arguments::Globals;
use crate::error::{CliError, diagnostic_text};
use crate::output::{Paint, Screen};

/// Prints errors to standard error, as `check` does.
pub(crate) fn print_errors(errors: &[DiagnosticObject]) {
    for error in errors {
        eprintln!("{}", diagnostic_text(error, ""));
    }
}

/// Prints warnings to standard error.
pub(crate) fn print_warnings(warnings: &[DiagnosticObject]) {
    for warning in warnings {
        eprintln!("{}", diagnostic_text(warning, "warning: "));
    }
}

/// Prints one line a step; `nothing` if there is none.
pub(crate) fn print_steps(
    globals: &Globals,
    screen: &mut Screen,
    steps: &[StepObject],
    nothing: &str,
) -> Result<(), CliError> {
    let colored = globals.is_colored(io::stdout().is_terminal());
    if steps.is_empty() && !globals.quiet {
        screen.line(nothing)?;
    }
    for step in steps {
        let (line, paint) = step_line(step);
        screen.line(&if colored { paint.apply(&line) } else { line })?;
    }
    screen.flush()
}

/// Returns `~ web restart (command, env.PORT)`, and its paint.
fn step_line(step: &StepObject) -> (String, Paint) {
    let (mark, action, paint) = match step.action.as_str() {
        "start" => ('+', "start", Paint::Good),
        "add" => ('+', "add, not enabled", Paint::Good),
        "quarantine" => ('+', "quarantine", Paint::Bad),
        "remove" => ('-', "remove", Paint::Bad),
        "marked" => ('~', "not restarted", Paint::Dim),
        // What runs stays as it is.
        "next-start" => ('.', "next-start", Paint::Dim),
        other => ('~', other, Paint::Moving),
    };
    let mut line = format!("{mark} {} {action}", step.name);
    if !step.keys.is_empty() {
        line.push_str(&format!(" ({})", step.keys.join(", ")));
    }
    (line, paint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_a_mark_an_action_and_keys() {
        let line = |name: &str, action: &str, keys: &[&str]| {
            let step = StepObject {
                name: name.to_owned(),
                action: action.to_owned(),
                keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            };
            step_line(&step).0
        };
        assert_eq!(
            line("web", "restart", &["command", "env.PORT"]),
            "~ web restart (command, env.PORT)"
        );
        assert_eq!(line("web", "marked", &["command"]), "~ web not restarted (command)");
        assert_eq!(line("web", "live", &["stop_timeout"]), "~ web live (stop_timeout)");
        assert_eq!(line("new", "start", &[]), "+ new start");
        assert_eq!(line("old", "remove", &[]), "- old remove");
        assert_eq!(line("extra", "add", &[]), "+ extra add, not enabled");
        assert_eq!(line("odd", "quarantine", &[]), "+ odd quarantine");
        assert_eq!(line("db", "next-start", &["env_file"]), ". db next-start (env_file)");
    }
}
