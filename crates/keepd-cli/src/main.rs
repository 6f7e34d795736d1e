//! The keepd command: words of a person to requests, and answers to words.
//!
//! It contains the verbs (one file each in `commands`), how an instance is found, the client of the
//! manager's HTTP API, tables and colours, and every error message of the command line. It contains
//! no decision about services and no protocol of its own: what a verb changes is done by the
//! manager, and what it shows is what the manager or the files say. The processes of keepd itself
//! (`keepd proxy`, `keepd __manager`) are the same program, but only their entry is here.
//!
//! Start from [`arguments::Verb`] (what can be typed) and [`error::CliError`] (what can go wrong).

mod aim;
mod arguments;
mod attach;
mod change;
mod client;
mod commands;
mod configuration;
mod dispatch;
mod error;
mod event_stream;
mod interrupts;
mod later;
mod log_places;
mod moment;
mod output;
mod place;
mod selector;
mod steps;
mod top;
mod usage;

/// The system's allocator, until a proxy takes all its memory at the start.
#[global_allocator]
static HEAP: keepd_os::heap::Heap = keepd_os::heap::Heap;

fn main() {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let code = dispatch::run(&arguments);
    std::process::exit(i32::from(code.get()));
}
