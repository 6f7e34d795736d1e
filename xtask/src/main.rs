//! The developer commands of keepd: `cargo xtask COMMAND`. Continuous integration runs the same
//! words.
//!
//! It holds one table of commands and the way to them. It builds nothing that is shipped, knows
//! nothing about how keepd works, and takes no third-party crate but a TOML parser, which tidy
//! needs, and a reader of what rustdoc writes, which [`api`] needs.
//!
//! Start from [`COMMANDS`] (what there is) and [`tidy`] (the rules of the house as programs).

mod api;
mod bench;
mod check;
mod ci;
mod codegen;
mod compatibility;
mod e2e;
mod features;
mod fuzz;
mod init;
mod loom;
mod nearest;
mod outcome;
mod packages;
mod sim;
mod skips;
mod steps;
mod test;
mod tidy;
mod torture;
mod workspace;

use std::process::ExitCode;

use outcome::{Failure, Verdict};

/// One developer command.
struct Command {
    /// The word after `cargo xtask`.
    name: &'static str,
    /// What may follow the word.
    arguments: &'static str,
    /// One line for `help`.
    summary: &'static str,
    run: fn(&[String]) -> Result<Verdict, Failure>,
}

/// Every command, in the order in which `help` lists them.
const COMMANDS: [Command; 16] = [
    Command {
        name: "check",
        arguments: "",
        summary: "Check formatting, clippy, tidy and the documentation",
        run: check::run,
    },
    Command {
        name: "test",
        arguments: "[FILTER]",
        summary: "Run every test; install what the tests need, or say what is skipped",
        run: test::run,
    },
    Command {
        name: "e2e",
        arguments: "[PATTERN]",
        summary: "Run the tests with real processes",
        run: e2e::run,
    },
    Command {
        name: "sim",
        arguments: "[--seed N] [--seeds N] [--steps N] | --crash-points | --walks",
        summary: "Replay one simulated run, or sweep over many; losses of our own processes",
        run: sim::run,
    },
    Command {
        name: "torture",
        arguments: "[--kills N] [--seed S] [--only WHO] [--every-call]",
        summary: "Kill keepd's own processes again and again, and let the services judge",
        run: torture::run,
    },
    Command {
        name: "fuzz",
        arguments: "[TARGET] [--seconds N]",
        summary: "Give every decoder of bytes from outside what libFuzzer makes up",
        run: fuzz::run,
    },
    Command {
        name: "bench",
        arguments: "[library] [--quick] [--only WORD] [--rounds N] [--write] [-o json] ...",
        summary: "Measure keepd beside a bare loop, or the library beside proc-daemon",
        run: bench::run,
    },
    Command {
        name: "features",
        arguments: "[--pairs]",
        summary: "Check that the library builds with each feature alone, none, all, and each pair",
        run: features::run,
    },
    Command {
        name: "loom",
        arguments: "",
        summary: "Check the lock-free parts of the library in every order of their threads",
        run: loom::run,
    },
    Command {
        name: "api",
        arguments: "[--check]",
        summary: "Write down what the library offers, or check that it is what was written down",
        run: api::run,
    },
    Command {
        name: "compatibility",
        arguments: "",
        summary: "Build and run proc-daemon's own examples and tests against the library",
        run: compatibility::run,
    },
    Command {
        name: "init",
        arguments: "",
        summary: "Build keepd-init as one static file, and say where it is",
        run: init::run,
    },
    Command {
        name: "codegen",
        arguments: "[--check]",
        summary: "Write docs/generated, or check that it is up to date",
        run: codegen::run,
    },
    Command {
        name: "tidy",
        arguments: "",
        summary: "Check the rules of the house",
        run: tidy::run,
    },
    Command {
        name: "ci",
        arguments: "",
        summary: "Run everything that a merge needs",
        run: ci::run,
    },
    Command { name: "help", arguments: "", summary: "Show this list", run: help },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        None => help(&[]),
        Some((word, rest)) => dispatch(word, rest),
    };
    match outcome {
        Ok(verdict) => verdict.exit_code(),
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit_code()
        }
    }
}

fn dispatch(word: &str, rest: &[String]) -> Result<Verdict, Failure> {
    let word = match word {
        "-h" | "--help" => "help",
        word => word,
    };
    if let Some(command) = COMMANDS.iter().find(|command| command.name == word) {
        return (command.run)(rest);
    }
    let hint = nearest::nearest(word, COMMANDS.iter().map(|command| command.name)).map_or_else(
        || "`cargo xtask help` lists the commands".to_owned(),
        |name| format!("the nearest is \"{name}\""),
    );
    Err(Failure::Usage(format!("cannot find command \"{word}\": {hint}")))
}

fn help(arguments: &[String]) -> Result<Verdict, Failure> {
    outcome::no_arguments("help", arguments)?;
    println!("cargo xtask COMMAND\n");
    for command in &COMMANDS {
        let call = format!("{} {}", command.name, command.arguments);
        println!("  {call:<38} {}", command.summary);
    }
    println!(
        "\nExit status: 0 done, 1 the answer is no, 100 the call is wrong, 111 the system failed."
    );
    Ok(Verdict::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_command_is_the_callers_fault_and_names_the_nearest() {
        let failure = dispatch("chek", &[]).unwrap_err();
        assert_eq!(
            failure,
            Failure::Usage("cannot find command \"chek\": the nearest is \"check\"".to_owned())
        );
        let far = dispatch("xylophone", &[]).unwrap_err();
        assert!(far.to_string().contains("cargo xtask help"), "{far}");
    }

    #[test]
    fn commands_have_distinct_names_and_a_summary_of_one_line() {
        for (index, command) in COMMANDS.iter().enumerate() {
            assert!(!command.summary.contains('\n'), "{}", command.name);
            assert!(!command.summary.ends_with('.'), "{}", command.name);
            assert!(
                COMMANDS[index + 1..].iter().all(|other| other.name != command.name),
                "{}",
                command.name
            );
        }
    }
}
