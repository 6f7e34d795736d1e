//! `seccomp(2)`, for tests: a program, and everything that it starts, finds a kernel that lacks
//! something.
#![expect(
    unsafe_code,
    reason = "a filter is installed by prctl(2), between fork and exec, and neither has a safe face"
)]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use keepd_model::Errno;

use crate::ledger::PIDFD_GET_INFO;

/// Where `struct seccomp_data` has the number of the call, and the lower half of its second
/// argument. See seccomp(2).
const NUMBER_OFFSET: u32 = 0;
const SECOND_ARGUMENT_OFFSET: u32 = 24;

/// Something that a kernel may lack, or a container may forbid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacking {
    /// `pidfd_open(2)`.
    PidfdOpen,
    /// `pidfd_send_signal(2)`.
    PidfdSendSignal,
    /// Inodes of pidfds, which are told by `fstatfs(2)`.
    PidfdInodes,
    /// `ioctl(pidfd, PIDFD_GET_INFO)`.
    ForeignExits,
    /// `clone3(2)`.
    Clone3,
    /// `close_range(2)`.
    CloseRange,
    /// `memfd_create(2)`.
    Memfd,
    /// `execveat(2)`.
    Execveat,
    /// `fallocate(2)`.
    Fallocate,
}

impl Lacking {
    /// Returns the number of the call, and of the request if only one of them is lacking.
    fn call(self) -> (libc::c_long, Option<u32>) {
        match self {
            Self::PidfdOpen => (libc::SYS_pidfd_open, None),
            Self::PidfdSendSignal => (libc::SYS_pidfd_send_signal, None),
            Self::PidfdInodes => (libc::SYS_fstatfs, None),
            Self::ForeignExits => (libc::SYS_ioctl, Some(PIDFD_GET_INFO as u32)),
            Self::Clone3 => (libc::SYS_clone3, None),
            Self::CloseRange => (libc::SYS_close_range, None),
            Self::Memfd => (libc::SYS_memfd_create, None),
            Self::Execveat => (libc::SYS_execveat, None),
            Self::Fallocate => (libc::SYS_fallocate, None),
        }
    }

    /// Returns what the call fails with where it is not there.
    fn errno(self) -> Errno {
        match self {
            Self::ForeignExits => Errno(libc::ENOTTY),
            Self::PidfdOpen
            | Self::PidfdSendSignal
            | Self::PidfdInodes
            | Self::Clone3
            | Self::CloseRange
            | Self::Memfd
            | Self::Execveat
            | Self::Fallocate => Errno(libc::ENOSYS),
        }
    }
}

/// Lets a program, and everything that it will start, run on a kernel that lacks these.
/// `forbidden`: the calls are not unknown but forbidden (EPERM), as by a container.
///
/// Without the right to (CAP_SYS_ADMIN) the program cannot gain privileges by what it executes.
/// Starting it fails where filters cannot be installed. See seccomp(2).
pub fn take_away(command: &mut Command, lacking: &[Lacking], forbidden: bool) {
    let mut filter = filter(lacking, forbidden);
    // SAFETY: the function makes two calls of prctl(2) and allocates nothing.
    unsafe { command.pre_exec(move || install(&mut filter)) };
}

fn filter(lacking: &[Lacking], forbidden: bool) -> Vec<libc::sock_filter> {
    let mut filter = Vec::new();
    for lacking in lacking {
        let (call, request) = lacking.call();
        let call = u32::try_from(call).expect("numbers of calls are small");
        let errno = if forbidden { Errno(libc::EPERM) } else { lacking.errno() };
        let refuse = libc::SECCOMP_RET_ERRNO | errno.0.unsigned_abs();
        filter.push(load(NUMBER_OFFSET));
        match request {
            None => filter.push(skip_unless(call, 1)),
            Some(request) => {
                filter.push(skip_unless(call, 3));
                filter.push(load(SECOND_ARGUMENT_OFFSET));
                filter.push(skip_unless(request, 1));
            }
        }
        filter.push(end(refuse));
    }
    filter.push(end(libc::SECCOMP_RET_ALLOW));
    filter
}

fn load(offset: u32) -> libc::sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0)
}

/// Leaves out so many instructions if what was loaded is something else.
fn skip_unless(value: u32, count: u8) -> libc::sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, count)
}

fn end(result: u32) -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, result, 0)
}

fn instruction(code: u32, value: u32, otherwise: u8) -> libc::sock_filter {
    let code = u16::try_from(code).expect("codes have 16 bits");
    libc::sock_filter { code, jt: 0, jf: otherwise, k: value }
}

fn install(filter: &mut [libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    // SAFETY: `program` names `length` instructions, which live as long as the call.
    let installed = || unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    // SAFETY: the operation takes numbers only.
    let gain_nothing = || unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 };
    if installed() || (gain_nothing() && installed()) {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_its_place_in_a_filter() {
        let filter = filter(&[Lacking::Clone3, Lacking::ForeignExits], false);
        assert_eq!(filter.len(), 3 + 5 + 1);
        assert_eq!(filter[2].k, libc::SECCOMP_RET_ERRNO | 38);
        assert_eq!(filter[7].k, libc::SECCOMP_RET_ERRNO | 25);
        assert_eq!(filter[4].jf, 3);
    }
}
