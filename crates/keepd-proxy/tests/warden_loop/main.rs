//! The warden with a kernel round it, and a proxy that does as it is told.
//!
//! This program is all three: the test, the warden, and the proxy, by its first argument. So it has
//! no test threads. The proxy connects to the test and takes one command after the other
//! (`script.rs`).

mod cases;
mod fixture;
mod script;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let role = arguments.nth(1);
    match role.as_ref().and_then(|role| role.to_str()) {
        Some("warden") => fixture::warden(&arguments.collect::<Vec<_>>()),
        Some("proxy") => script::proxy(&arguments.collect::<Vec<_>>()),
        // An argument of the test runner, or none.
        Some(_) | None => {
            for (name, case) in cases::ALL {
                println!("test {name}");
                case();
            }
            println!("ok");
            ExitCode::SUCCESS
        }
    }
}
