//! The front end together with the core, as plain clients hear them.

mod conversations;
mod driver;
mod errors;
mod flow;
mod grammar;
mod handles;
mod limits;
mod services;
mod walk;
