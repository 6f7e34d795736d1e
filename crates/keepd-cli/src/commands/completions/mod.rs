//! `keepd completions`: scripts for shells. The words of the command line come from its definition,
//! the names of services from the manager that runs when somebody presses the key.

mod offers;
mod verb;

pub(crate) use verb::{CompletionsOptions, run};
