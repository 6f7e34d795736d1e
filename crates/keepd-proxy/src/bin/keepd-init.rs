//! The proxy as a program of its own, for containers and for controllers that need nothing else of
//! keepd.
//!
//! It contains nothing but the entry: start from [`keepd_proxy::run`].

use std::process::ExitCode;

use keepd_proxy::{Options, UsageError};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.iter().any(|word| word == "--") {
        let refusal = UsageError::Unsupported("--".to_owned());
        eprintln!("fatal: {refusal}");
        return refusal.exit_code().into();
    }
    match Options::parse(arguments) {
        Ok(options) => keepd_proxy::run(&options).into(),
        Err(shown @ (UsageError::Help | UsageError::Version)) => {
            println!("{shown}");
            shown.exit_code().into()
        }
        Err(refusal) => {
            eprintln!("fatal: {refusal}");
            refusal.exit_code().into()
        }
    }
}
