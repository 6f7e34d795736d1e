//! The small program for containers: the init of one command, or the proxy as a program of its own.
//!
//! It contains nothing but the choice between the two: start from [`keepd_proxy::init`] and
//! [`keepd_proxy::run()`].

use std::process::ExitCode;

use keepd_proxy::{Options, UsageError, init};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.iter().any(|word| word == "--") {
        return init::run(arguments).into();
    }
    match Options::parse(arguments) {
        Ok(options) => keepd_proxy::run(&options).into(),
        Err(shown @ (UsageError::Help | UsageError::Version)) => {
            if shown == UsageError::Help {
                println!("{}\n\nWithout a \"--\" it is the proxy.\n", init::HELP);
            }
            println!("{shown}");
            shown.exit_code().into()
        }
        Err(refusal) => {
            eprintln!("fatal: {refusal}");
            refusal.exit_code().into()
        }
    }
}
