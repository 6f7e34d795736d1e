//! A process with one thread goes into the background. A program of its own, because the usual
//! test programs have more threads.

mod support;

use std::io::Read;

use keepd_os::daemon::{Fork, fork_into_background};
use support::end_of;

fn main() {
    let (read, write) = rustix::pipe::pipe().unwrap();
    match fork_into_background().unwrap() {
        Fork::Child => {
            let own = rustix::process::getpid();
            let session = rustix::process::getsid(None).unwrap();
            let is_leader = session == own && rustix::process::getpgrp() == own;
            rustix::io::write(&write, if is_leader { b"y" } else { b"n" }).unwrap();
        }
        Fork::Parent(child) => {
            drop(write);
            let mut said = String::new();
            std::fs::File::from(read).read_to_string(&mut said).unwrap();
            assert_eq!(said, "y");
            assert_eq!(end_of(child), keepd_model::Exit::Code(0));
            println!("the child leads a session: ok");
        }
    }
}
