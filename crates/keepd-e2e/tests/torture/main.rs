//! keepd's own processes are killed, at random and at each of their system calls; the services say
//! whether a promise was broken. `cargo xtask torture` does the same for longer.

mod every_call;
mod interrupted;
mod kills;
