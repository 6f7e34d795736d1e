//! Real faults of a process that runs, without its help: instructions are put where it goes on.

use std::fs;
use std::io::{ErrorKind, Seek, SeekFrom, Write};

use keepd_model::Signal;
use keepd_testkit::{LONG, signal, skip, wait_until};

use crate::place::status_of;

/// A fault, as the signal by which the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An instruction that there is not.
    Ill,
    /// Reading at address 0.
    Segv,
}

pub(crate) const FAULTS: [Fault; 2] = [Fault::Ill, Fault::Segv];

impl Fault {
    /// Returns the name of the signal.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ill => "ILL",
            Self::Segv => "SEGV",
        }
    }

    /// Returns instructions of this processor, if they are known.
    fn instructions(self) -> Option<&'static [u8]> {
        match (self, std::env::consts::ARCH) {
            // ud2
            (Self::Ill, "x86_64") => Some(&[0x0f, 0x0b]),
            // xor eax, eax; mov eax, [rax]
            (Self::Segv, "x86_64") => Some(&[0x31, 0xc0, 0x8b, 0x00]),
            // udf #0
            (Self::Ill, "aarch64") => Some(&[0; 4]),
            // mov x0, xzr; ldr x0, [x0]
            (Self::Segv, "aarch64") => Some(&[0xe0, 0x03, 0x1f, 0xaa, 0x00, 0x00, 0x40, 0xf9]),
            (Self::Ill | Self::Segv, _) => None,
        }
    }
}

/// Reports whether this is the number of epoll_wait(2) or a relative of it.
fn is_wait(number: u32) -> bool {
    match std::env::consts::ARCH {
        "x86_64" => [232, 281, 441].contains(&number),
        "aarch64" => [22, 441].contains(&number),
        _ => false,
    }
}

/// Lets a process run into the fault. `false` where that cannot be done.
#[track_caller]
pub(crate) fn provoke(pid: u32, fault: Fault) -> bool {
    let Some(instructions) = fault.instructions() else {
        skip("real faults: no instructions are known for this processor");
        return false;
    };
    // Elsewhere it may stand where its handler of faults passes as well, such as the one place from
    // which a C library makes many calls: that would be a fault of the handler.
    let call = wait_until("the process to stand still while it waits for news", LONG, || {
        assert!(signal(pid, Signal::STOP));
        wait_until("the process to stand still", LONG, || {
            status_of(pid, "State").starts_with('T').then_some(())
        });
        let call = fs::read_to_string(format!("/proc/{pid}/syscall"));
        let number = |call: &str| call.split(' ').next().and_then(|number| number.parse().ok());
        if call.as_ref().is_ok_and(|call| !number(call).is_some_and(is_wait)) {
            assert!(signal(pid, Signal::CONT));
            return None;
        }
        Some(call)
    });
    // The last field is the address where it goes on. Waiting for news ends with EINTR for who was
    // stopped.
    let written = call.and_then(|call| {
        let address = call.trim_end().rsplit(' ').next().unwrap().trim_start_matches("0x");
        let address = u64::from_str_radix(address, 16).unwrap();
        let mut memory = fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/mem"))?;
        memory.seek(SeekFrom::Start(address))?;
        memory.write_all(instructions)
    });
    assert!(signal(pid, Signal::CONT));
    match written {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            skip("real faults: the memory of another process cannot be written here");
            false
        }
        Err(error) => panic!("cannot write the memory of {pid}: {error}"),
    }
}
