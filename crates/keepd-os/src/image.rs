//! What execve(2) wants: C strings, their pointer arrays, the candidates of PATH. All memory is
//! taken early, because none may be taken after a clone and in a signal handler.
#![expect(unsafe_code, reason = "execve(2) reads pointers, and must not allocate")]

use std::borrow::Cow;
use std::ffi::c_char;
use std::os::fd::RawFd;
use std::ptr;

use keepd_model::Errno;

/// Where programs are looked for when the environment has no `PATH`.
const FALLBACK_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The strings of a program as execve(2) wants them. The pointers point into `_strings`, whose
/// memory does not move while the image lives.
pub(crate) struct Image {
    _strings: Vec<u8>,
    /// Null-terminated.
    pub(crate) arguments: Vec<*const c_char>,
    /// Null-terminated.
    pub(crate) environment: Vec<*const c_char>,
    /// Paths to try, in order; not empty and not null-terminated.
    pub(crate) candidates: Vec<*const c_char>,
    /// Null for "stay".
    pub(crate) directory: *const c_char,
}

/// Strings laid one after the other, each ended by a NUL.
struct Arena {
    bytes: Vec<u8>,
}

impl Arena {
    /// Makes room for what there is at least. After a clone each page that we write is copied for
    /// as long as the child has not executed its program, so few allocations are less work.
    fn with_room(
        arguments: &[Vec<u8>],
        environment: &[Cow<'_, [u8]>],
        directory: Option<&[u8]>,
    ) -> Self {
        let program = arguments.first().map_or(0, Vec::len);
        let arguments = arguments.iter().map(Vec::len);
        let environment = environment.iter().map(|entry| entry.len());
        let directory = directory.map(<[u8]>::len);
        let lengths = arguments.chain(environment).chain(directory);
        let bytes = lengths.map(|length| length + 1).sum::<usize>() + program + 1;
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// Appends the parts as one C string and returns where it begins.
    fn push(&mut self, parts: &[&[u8]]) -> Result<usize, Errno> {
        let start = self.bytes.len();
        for part in parts {
            if part.contains(&0) {
                return Err(Errno::EINVAL);
            }
            self.bytes.extend_from_slice(part);
        }
        self.bytes.push(0);
        Ok(start)
    }
}

impl Image {
    /// Lays out the strings; a NUL byte in one of them or no program is refused with EINVAL. No
    /// file has an empty name, which is found out by execve(2).
    pub(crate) fn new(
        arguments: &[Vec<u8>],
        environment: &[Cow<'_, [u8]>],
        directory: Option<&[u8]>,
    ) -> Result<Self, Errno> {
        let program = arguments.first().ok_or(Errno::EINVAL)?;
        let mut arena = Arena::with_room(arguments, environment, directory);
        let candidates = push_candidates(&mut arena, program, environment)?;
        let arguments = push_all(&mut arena, arguments)?;
        let environment = push_all(&mut arena, environment)?;
        let directory = match directory {
            Some(directory) => Some(arena.push(&[directory])?),
            None => None,
        };
        let base = arena.bytes.as_ptr();
        let pointer = |start: usize| base.wrapping_add(start).cast::<c_char>();
        let terminated = |starts: Vec<usize>| {
            let pointers = starts.into_iter().map(pointer);
            pointers.chain([ptr::null()]).collect()
        };
        Ok(Self {
            arguments: terminated(arguments),
            environment: terminated(environment),
            candidates: candidates.into_iter().map(pointer).collect(),
            directory: directory.map_or(ptr::null(), pointer),
            _strings: arena.bytes,
        })
    }
}

fn push_all(arena: &mut Arena, strings: &[impl AsRef<[u8]>]) -> Result<Vec<usize>, Errno> {
    let mut starts = Vec::with_capacity(strings.len());
    for string in strings {
        starts.push(arena.push(&[string.as_ref()])?);
    }
    Ok(starts)
}

/// Appends the paths that execve(2) shall try. An empty element of `PATH` is the working directory,
/// as for execvp(3).
fn push_candidates(
    arena: &mut Arena,
    program: &[u8],
    environment: &[Cow<'_, [u8]>],
) -> Result<Vec<usize>, Errno> {
    if program.is_empty() || program.contains(&b'/') {
        return Ok(vec![arena.push(&[program])?]);
    }
    let path = environment
        .iter()
        .find_map(|entry| entry.strip_prefix(b"PATH=".as_slice()))
        .filter(|path| !path.is_empty())
        .unwrap_or(FALLBACK_PATH);
    path.split(|byte| *byte == b':')
        .map(|element| match element {
            [] => arena.push(&[b"./", program]),
            element => arena.push(&[element, b"/", program]),
        })
        .collect()
}

/// `execveat(file, "", arguments, environment, AT_EMPTY_PATH)`: becomes the program in this file;
/// returns the error number. A raw call: nothing is allocated or locked.
///
/// # Safety
///
/// `arguments` and `environment` are null-terminated arrays of C strings.
pub(crate) unsafe fn execute_file(
    file: RawFd,
    arguments: *const *const c_char,
    environment: *const *const c_char,
) -> i32 {
    // SAFETY: by the caller's promise, two null-terminated arrays of C strings. The C library keeps
    // errno in memory of this thread.
    unsafe {
        let (path, flags) = (c"".as_ptr(), libc::AT_EMPTY_PATH);
        libc::syscall(libc::SYS_execveat, file, path, arguments, environment, flags);
        *libc::__errno_location()
    }
}

/// `execve(candidate, arguments, environment)` for each candidate: becomes the first one that can
/// be executed; returns the error number if none can.
///
/// As execvp(3) does, a missing file leads to the next candidate, and a forbidden one is
/// remembered, should nothing better be found. Raw calls only: nothing is allocated or locked.
///
/// # Safety
///
/// Every candidate is a C string; `arguments` and `environment` are null-terminated arrays of them.
pub(crate) unsafe fn execute_first(
    candidates: &[*const c_char],
    arguments: *const *const c_char,
    environment: *const *const c_char,
) -> i32 {
    let mut last = libc::ENOENT;
    let mut forbidden = false;
    for candidate in candidates {
        // SAFETY: by the caller's promise, a C string and two null-terminated arrays of C strings.
        // The C library keeps errno in memory of this thread.
        last = unsafe {
            libc::syscall(libc::SYS_execve, *candidate, arguments, environment);
            *libc::__errno_location()
        };
        match last {
            libc::EACCES => forbidden = true,
            libc::ENOENT | libc::ENOTDIR | libc::ENODEV | libc::ESTALE | libc::ETIMEDOUT => {}
            _ => return last,
        }
    }
    if forbidden { libc::EACCES } else { last }
}
