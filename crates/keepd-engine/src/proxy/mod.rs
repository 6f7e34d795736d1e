//! The proxy machine: mechanism without policy.
//!
//! It knows what every process of every service is doing and what must follow from that by itself.
//! It does not know why a service should run, in which order, or whether an end was a failure: that
//! is the business of whoever is connected. It contains no dependency, readiness, health or
//! schedule.
//!
//! # The run of a service
//!
//! ```text
//!            start            Spawned           Executed
//!   Down ───────────▶ Spawning ──────▶ Forked ──────────▶ Up
//!    ▲ ▲                 │ clone failed   │ stop           │ stop
//!    │ └─────────────────┘                ▼                ▼
//!    │        ┌───────────────────── Stopping ◀────────────┘
//!    │ start  │ reaped (from Forked, Up, Stopping or Stuck)   │ 5 s after KILL
//!    │ due    ▼                                               ▼
//! Pending ◀─ Emptying ── group empty ──▶ Down              Stuck
//!             └────────────── 5 s after KILL ──────────────▶
//! ```
//!
//! A machine that succeeds another one finds a service in `Up`, `Emptying` or `Down`, or in
//! `Unsure`, where it stays until more is known.
//!
//! A generation begins when its number is given out (`Spawning`), and it ends when nothing of it is
//! left (`Down`), not when its main process ends: between the two is `Emptying`. A service without
//! a group of its own (`place=none`, or one of keepd's own processes) is its main process, and goes
//! from the reaping straight to `Down`; so does one with `kill_mode=main`, whose others are left
//! alone.
//!
//! # What interrupts what
//!
//! From the strongest to the weakest; the stronger one never waits for the weaker.
//!
//! 1. *A death.* It is news, not a wish. It takes any state with a main process to `Emptying` or
//!    `Down`, whatever was going on, and it is told to everybody, each one.
//! 2. *KILL.* Once sent it is never taken back; a state in its KILL phase only repeats it.
//! 3. *A stop.* It cancels a pending start, and it outlives every state until the next start:
//!    nothing starts by itself after it. A second stop only brings KILL nearer. A stop of a
//!    generation whose process is not known yet waits for the shell's answer, which always comes.
//! 4. *A command to start.* Accepted in `Down` and `Pending` only. In all other states the last
//!    generation still has processes, and two generations never run at the same time. It may name a
//!    time: then it is pending, and the last word about the time counts.
//! 5. *A start by itself* (triggers, `respawn`, `retry`, a lease). It happens only where nobody
//!    asked for an end, and nothing about a service that has a lease changed.
//! 6. *Setters.* They never touch a process. `kill_mode`, `stop_signal`, `stop_timeout` and
//!    `respawn` are looked at when they are needed; everything else is taken at the next start.
//!
//! News carries the generation it is about; news of any other generation is dropped. Connections
//! never hold anything up: who cannot take news gets it later (`backlog`), or is closed.
//!
//! # Effects that fail
//!
//! What a command wants of the kernel, and may not get, is a *ticket* ([`Output::Perform`]): the
//! shell tries at once and says how it went ([`Input::Performed`]). Until then nothing has changed;
//! a failure is the answer to the command.
//!
//! # Successors
//!
//! With [`Settings::records`] the machine says what a successor has to know ([`Output::Record`])
//! before anything that follows from it. What acts is not recorded: what became of it is in the
//! ledger, which the shell keeps. A successor is told the facts ([`Input::Replayed`]), then what is
//! left of each service ([`Input::Adopted`]), then goes on like any other machine.
//!
//! # Where things are
//!
//! `machine` has the four verbs. `service` has the states and `transition()`, the only door between
//! them; `start` and `stop` have the two halves of a life, `triggers` what begins one by itself;
//! `jobs` the commands beside it; `handles` the named descriptors; `process` what the proxy's own
//! process is told; `tickets` what may fail; `records` and `adopt` what one machine leaves to the
//! next; `leases` restarts that need no command, and ends that nobody has acknowledged;
//! `definition` what setters say; `packed` how many short strings are kept; `commands` what is
//! asked; `connections`, `backlog` and `dump` what is told; `views` what may be looked at;
//! `memory` what is refused while there is none; `invariants` what is always true.
//! `docs/behaviour.md`, 1 to 5, 17 and 18, says it in sentences.

mod adopt;
mod backlog;
mod commands;
mod connections;
mod definition;
mod dump;
mod handles;
mod interface;
mod invariants;
mod jobs;
mod leases;
mod machine;
mod memory;
mod packed;
mod process;
mod records;
mod service;
mod start;
mod stop;
mod tickets;
mod triggers;
mod views;

pub use interface::{
    AdoptedRun, CallFailure, ConnectionId, ControlEnd, DescriptorId, DescriptorList,
    DescriptorSource, Effect, EndedRun, Fact, Input, JobId, JobSpawn, Output, Owner, Performed,
    ServiceSpawn, SpawnOutcome, Ticket,
};
pub use machine::{Proxy, ServiceView, Settings};
pub use views::ServiceDetails;
