//! The verb itself: a script for a shell, made of clap's words and ours.

use clap::builder::PossibleValue;
use clap::{Args, Command, CommandFactory, ValueEnum, ValueHint};
use clap_complete::Shell;
use keepd_model::ExitCode;

use super::offers::{names_services, offers, options_with_value};
use crate::arguments::CommandLine;
use crate::error::{CliError, ErrorKind};
use crate::output::Screen;

/// Print a script that completes words of keepd in a shell
///
/// In bash, zsh and fish the names of services come from the keepd that runs when the key is
/// pressed. For bash: `source <(keepd completions bash)` in ~/.bashrc. For zsh: save it as _keepd
/// in a folder of $fpath. For fish: save it as ~/.config/fish/completions/keepd.fish.
#[derive(Args, Debug)]
pub(crate) struct CompletionsOptions {
    /// Print the script for this shell
    #[arg(value_name = "SHELL")]
    shell: ForShell,
}

/// A shell that clap can write for.
#[derive(Clone, Copy, Debug)]
struct ForShell(Shell);

impl ValueEnum for ForShell {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self(Shell::Bash),
            Self(Shell::Zsh),
            Self(Shell::Fish),
            Self(Shell::Elvish),
            Self(Shell::PowerShell),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        self.0.to_possible_value()
    }
}

/// The program that completes.
const PROGRAM: &str = "keepd";
/// What clap calls its function, which ours calls.
const BASH_FUNCTION: &str = "_keepd() {";
/// What completes an argument in zsh that has the hint we misuse as a mark.
const ZSH_MARK: &str = ":_users";

/// Where clap's function for zsh goes on with the words of a verb. It forgets the options that were
/// read until then.
const ZSH_VERB: &str = "    (keepd)\n";
/// Keeps them for ours.
const ZSH_KEEP: &str = "        local -A keepd_before_verb
        keepd_before_verb=(\"${(@kv)opt_args}\")
";

const BASH: &str = include_str!("keepd.bash");
const ZSH: &str = include_str!("keepd.zsh");
const FISH: &str = include_str!("keepd.fish");

/// Runs the verb.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn run(options: &CompletionsOptions) -> Result<ExitCode, CliError> {
    let mut screen = Screen::stdout();
    screen.text(&script(options.shell.0)?)?;
    screen.flush()?;
    Ok(ExitCode::Done)
}

fn script(shell: Shell) -> Result<String, CliError> {
    let mut command = visible();
    let offers = offers(&command);
    let words = |shell: Shell, command: &mut Command| {
        let mut bytes = Vec::new();
        clap_complete::generate(shell, command, PROGRAM, &mut bytes);
        String::from_utf8(bytes)
            .map_err(|error| CliError::because(ErrorKind::System, "cannot write the script", error))
    };
    match shell {
        Shell::Bash => {
            let valued = options_with_value(&command).join("|");
            let cases = offers.iter().map(|offer| {
                let (verb, words) = (&offer.verb, offer.words.join(" "));
                format!("        {verb}) words=\"{words}\" ;;\n")
            });
            let own =
                BASH.replace("@VALUED@", &valued).replace("@CASES@\n", &cases.collect::<String>());
            let generated =
                words(shell, &mut command)?.replacen(BASH_FUNCTION, "__keepd_words() {", 1);
            Ok(format!("{own}\n{generated}"))
        }
        Shell::Zsh => {
            let cases = offers.iter().filter(|offer| !offer.words.is_empty()).map(|offer| {
                let (verb, words) = (&offer.verb, offer.words.join(" "));
                format!("        ({verb}) offered+=({words}) ;;\n")
            });
            let own = ZSH.replace("@CASES@\n", &cases.collect::<String>());
            let mut marked = command.mut_subcommands(|verb| {
                verb.mut_args(|argument| match names_services(&argument) {
                    true => argument.value_hint(ValueHint::Username),
                    false => argument,
                })
            });
            let generated = words(shell, &mut marked)?.replace(ZSH_MARK, ":_keepd_offered");
            let generated = generated.replacen(ZSH_VERB, &format!("{ZSH_VERB}{ZSH_KEEP}"), 1);
            // The first line says which program it is for.
            let (first, rest) = generated.split_once('\n').unwrap_or((&generated, ""));
            Ok(format!("{first}\n\n{own}{rest}"))
        }
        Shell::Fish => {
            let mut text = words(shell, &mut command)?;
            text.push_str(FISH);
            for offer in &offers {
                let verb = &offer.verb;
                text.push_str(&format!(
                    "complete -c {PROGRAM} -n \"__fish_keepd_using_subcommand {verb}\" -f \
                     -a \"(__keepd_services) {}\"\n",
                    offer.words.join(" ")
                ));
            }
            Ok(text)
        }
        // Further shells that clap may learn get the words of clap, as these do.
        other => words(other, &mut command),
    }
}

/// Returns the command line without what is not for people.
fn visible() -> Command {
    let full = CommandLine::command();
    let verbs = full.get_subcommands().filter(|verb| !verb.is_hide_set());
    Command::new(PROGRAM)
        .disable_help_subcommand(true)
        .args(full.get_arguments().cloned())
        .subcommands(verbs.cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_has_a_script_without_hidden_verbs() {
        for ForShell(shell) in ForShell::value_variants() {
            let script = script(*shell).unwrap();
            assert!(script.contains("restart"), "{shell}");
            assert!(!script.contains("__reference"), "{shell}");
            assert!(!script.contains("@CASES@") && !script.contains("@VALUED@"), "{shell}");
        }
    }

    #[test]
    fn names_come_from_the_manager() {
        let bash = script(Shell::Bash).unwrap();
        assert!(bash.contains("\n__keepd_words() {") && bash.contains("complete -F _keepd "));
        assert_eq!(bash.matches("\n_keepd() {").count(), 1);
        assert!(bash.contains("        start) words=\"\" ;;\n"));
        let zsh = script(Shell::Zsh).unwrap();
        assert!(zsh.starts_with("#compdef keepd\n"));
        assert!(zsh.contains(":_keepd_offered'") && !zsh.contains("_users"));
        let keeps = "    case $state in\n    (keepd)\n        local -A keepd_before_verb\n";
        assert!(zsh.contains(keeps), "options before the verb are known after it");
        let fish = script(Shell::Fish).unwrap();
        let why = "\"__fish_keepd_using_subcommand why\" -f -a \"(__keepd_services) \"";
        assert!(fish.contains(why), "{fish}");
        // It is clap that defines it.
        assert!(fish.contains("function __fish_keepd_using_subcommand"));
    }
}
