//! Every decision of keepd, in two pure machines: [`proxy`] (mechanism: what a process is doing and
//! what must follow) and [`manager`] (policy: what is wanted, in which order, and when again).
//!
//! It contains no clock, randomness source, environment, file, socket, thread or process: news
//! comes in as `Input`, everything to be done goes out as `Output`, and time is an argument. Each
//! machine has four verbs: `handle_input`, `handle_timeout`, `poll_timeout`, `poll_output`; all
//! else is a getter. Outputs form one ordered queue: their order is part of the contract.
//!
//! Start from [`proxy::Proxy`] and [`manager::Manager`]. `docs/behaviour.md` says in numbered
//! sentences what they do with a service from start to reap.

pub mod manager;
pub mod proxy;
