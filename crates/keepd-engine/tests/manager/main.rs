//! Stories of the manager machine: a plan, a proxy played by [`world::World`], virtual time.
//!
//! Each test cites the sentences of `docs/behaviour.md` that it tells.

mod apply;
mod boot;
mod changes;
mod explain;
mod leases;
mod memory;
mod readiness;
mod relations;
mod restarts;
mod shortage;
mod shutdown;
mod stops;
mod takeover;
mod tell;
mod walk;
mod world;
