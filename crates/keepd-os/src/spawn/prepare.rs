//! Everything with memory in it, made before the clone: C strings, their pointer arrays, PATH
//! candidates.

use std::borrow::Cow;
use std::ffi::c_char;
use std::ptr;

use keepd_model::{Errno, SpawnFailure, SpawnStep};

use super::SpawnRequest;

/// Where programs are looked for when the environment has no `PATH`.
const FALLBACK_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The strings of a spawn as execve(2) wants them. The pointers point into `_strings`, whose memory
/// does not move while the image lives.
pub(super) struct Image {
    _strings: Vec<u8>,
    /// Null-terminated.
    pub(super) arguments: Vec<*const c_char>,
    /// Null-terminated.
    pub(super) environment: Vec<*const c_char>,
    /// Paths to try, in order; not empty and not null-terminated.
    pub(super) candidates: Vec<*const c_char>,
    /// Null for "stay".
    pub(super) directory: *const c_char,
}

/// Strings laid one after the other, each ended by a NUL.
struct Arena {
    bytes: Vec<u8>,
}

impl Arena {
    /// Makes room for what a request has at least. After a clone each page that we write is copied
    /// for as long as the child has not executed its program, so few allocations are less work.
    fn for_request(request: &SpawnRequest<'_>) -> Self {
        let arguments = request.arguments.iter().map(Vec::len);
        let environment = request.environment.iter().map(|entry| entry.len());
        let directory = request.directory.map(<[u8]>::len);
        let lengths = arguments.chain(environment).chain(directory);
        let program = request.arguments.first().map_or(0, Vec::len);
        let bytes = lengths.map(|length| length + 1).sum::<usize>() + program + 1;
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// Appends the parts as one C string and returns where it begins.
    fn push(&mut self, parts: &[&[u8]]) -> Result<usize, SpawnFailure> {
        let start = self.bytes.len();
        for part in parts {
            if part.contains(&0) {
                return Err(invalid());
            }
            self.bytes.extend_from_slice(part);
        }
        self.bytes.push(0);
        Ok(start)
    }
}

impl Image {
    /// Lays out the strings; a NUL byte in one of them, an empty program or an unusable target
    /// descriptor is refused with EINVAL.
    pub(super) fn new(request: &SpawnRequest<'_>) -> Result<Self, SpawnFailure> {
        check_targets(request)?;
        let program = request.arguments.first().filter(|program| !program.is_empty());
        let program = program.ok_or_else(invalid)?;
        let mut arena = Arena::for_request(request);
        let arguments = push_all(&mut arena, request.arguments)?;
        let environment = push_all(&mut arena, request.environment)?;
        let candidates = push_candidates(&mut arena, program, request.environment)?;
        let directory = match request.directory {
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

fn push_all(arena: &mut Arena, strings: &[impl AsRef<[u8]>]) -> Result<Vec<usize>, SpawnFailure> {
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
) -> Result<Vec<usize>, SpawnFailure> {
    if program.contains(&b'/') {
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

/// Targets lie above the standard descriptors and are wanted once each.
fn check_targets(request: &SpawnRequest<'_>) -> Result<(), SpawnFailure> {
    for (index, (_, target)) in request.extra.iter().enumerate() {
        let twice = request.extra[..index].iter().any(|(_, other)| other == target);
        if *target < 3 || *target == i32::MAX || twice {
            return Err(invalid());
        }
    }
    Ok(())
}

fn invalid() -> SpawnFailure {
    SpawnFailure { step: SpawnStep::Prepare, errno: Errno::EINVAL }
}
