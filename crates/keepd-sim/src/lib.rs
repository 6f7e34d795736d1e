//! The whole of keepd in one thread and from one seed: the manager machine, the proxy machine, the
//! wire between them, a simulated kernel with processes that misbehave, clients that ask for the
//! same thing until they are answered, and a manager that is killed between any two of its outputs.
//!
//! It contains no clock, file, socket, process or randomness of its own: the same seed gives the
//! same run, event by event. The shells of the real programs are not here; their part of the
//! contract with the machines is played as the interfaces of [`keepd_engine`] describe it.
//!
//! Start from [`run`]: it plays one seed and returns what happened, or the first invariant that
//! broke. The invariants are listed at the top of `checker.rs`.
//!
//! The loss of warden and proxy is another world, [`recovery`].

mod actions;
mod checker;
mod clients;
mod convergence;
mod estate;
mod kernel;
mod manager;
mod observer;
mod plain;
mod plain_client;
mod proxy;
mod random;
mod ready;
pub mod recovery;
mod report;
mod run;
mod sabotage;
mod scenario;
mod succession;
mod visitor;
mod world;

pub use report::{Broken, Failure, Faults, Report};
pub use run::{ACTIONS_DEFAULT, explain, print, run, run_sabotaged};
pub use sabotage::Sabotage;
