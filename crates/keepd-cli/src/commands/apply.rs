//! `keepd apply`.

use clap::Args;
use keepd_manager::api::types::{ApplyAccepted, ApplyRequest, StepObject};
use keepd_model::ExitCode;
use tokio::time::Instant;

use crate::arguments::Globals;
use crate::change;
use crate::client::{Client, block_on, token};
use crate::error::{CliError, diagnostic_text};
use crate::output::{Paint, Screen};
use crate::place;

/// Make what runs match the configuration file
///
/// The file is read and checked as a whole: with any error in it nothing is changed. Then new
/// services are started, removed ones are stopped, and those with changed keys are restarted, in
/// the order of their dependencies; keys that need no restart take effect at once. Exit code 1 if a
/// service does not get there.
#[derive(Args, Debug)]
pub(crate) struct ApplyOptions {
    /// Only mark services that would be restarted; `keepd restart` gives them their new
    /// configuration
    #[arg(long)]
    no_restart: bool,
}

/// Runs the verb.
///
/// # Errors
/// There is no manager, the configuration has errors, or the wait ends early.
pub(crate) fn run(globals: &Globals, options: &ApplyOptions) -> Result<ExitCode, CliError> {
    let client = Client::new(&place::find(globals)?);
    let request = ApplyRequest {
        restart: !options.no_restart,
        token: Some(token()?),
        ..ApplyRequest::default()
    };
    block_on(async {
        let asked_at = Instant::now();
        let accepted: ApplyAccepted = client.post("/v1/config/apply", &request).await?;
        for warning in &accepted.warnings {
            eprintln!("{}", diagnostic_text(warning, "warning: "));
        }
        if !globals.is_json() {
            print_steps(globals, &accepted.steps)?;
        }
        change::finish(&client, globals, &accepted.change, asked_at).await
    })
}

fn print_steps(globals: &Globals, steps: &[StepObject]) -> Result<(), CliError> {
    let colored = globals.is_colored(std::io::IsTerminal::is_terminal(&std::io::stdout()));
    let mut screen = Screen::stdout();
    if steps.is_empty() && !globals.quiet {
        screen.line("Nothing has changed.")?;
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
        "remove" => ('-', "stop", Paint::Bad),
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
        assert_eq!(line("new", "start", &[]), "+ new start");
        assert_eq!(line("old", "remove", &[]), "- old stop");
        assert_eq!(line("extra", "add", &[]), "+ extra add, not enabled");
        assert_eq!(line("db", "next-start", &["env_file"]), "~ db next-start (env_file)");
    }
}
