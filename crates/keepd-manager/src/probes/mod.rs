//! Readiness questions that are asked from outside: can one connect, does it answer, is it there,
//! did it say so.
//!
//! What looks at file systems does it on threads that may hang, and no question is asked longer
//! than its limit.

mod lent;
mod log;
mod network;
mod prober;
mod strangers;

pub(crate) use prober::Prober;
pub(crate) use strangers::Strangers;
