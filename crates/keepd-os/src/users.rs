//! Names of users and groups to numbers, through the C library's name services.
//!
//! These calls may ask the network (LDAP) and block for as long as it takes: call them from a
//! thread that may wait. They do not work in a statically linked program.
#![expect(unsafe_code, reason = "the user database is reached only through the C library")]

use std::ffi::{CStr, CString, OsString, c_char};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::ptr;

use keepd_model::Errno;

/// Buffers grow up to this size; a longer entry is an error.
const BUFFER_BYTES_MAX: usize = 1024 * 1024;
const BUFFER_BYTES_FIRST: usize = 4096;
/// More groups than the kernel lets a process have.
const GROUPS_MAX: usize = 65_536;
/// "No change" for chown(2) and setresuid(2), and therefore nobody's number.
const NOBODY_AT_ALL: u32 = u32::MAX;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name; `None` for a number without an entry.
    pub name: Option<String>,
    /// User id.
    pub uid: u32,
    /// Primary group; `None` for a number without an entry.
    pub gid: Option<u32>,
    /// Home directory; `None` for a number without an entry.
    pub home: Option<PathBuf>,
    /// Login shell; `None` for a number without an entry.
    pub shell: Option<PathBuf>,
}

/// `getpwnam_r(name)`, or `getpwuid_r(number)`: looks a user up.
///
/// A number without an entry is a user all the same, with nothing but its number; a name without
/// one is `None`. Fails with the name service's error. See getpwnam(3).
pub fn user(name_or_number: &str) -> Result<Option<User>, Errno> {
    if let Some(uid) = number(name_or_number) {
        // SAFETY: all pointers are valid for what getpwuid_r(3) does with them.
        let found = look_up(|entry, buffer, bytes, result| unsafe {
            libc::getpwuid_r(uid, entry, buffer, bytes, result)
        })?;
        return Ok(Some(found.unwrap_or(User {
            name: None,
            uid,
            gid: None,
            home: None,
            shell: None,
        })));
    }
    let Ok(name) = CString::new(name_or_number) else {
        return Ok(None);
    };
    // SAFETY: `name` is a C string, and all pointers are valid for what getpwnam_r(3) does with
    // them.
    look_up(|entry, buffer, bytes, result| unsafe {
        libc::getpwnam_r(name.as_ptr(), entry, buffer, bytes, result)
    })
}

/// `getgrnam_r(name)`: returns the number of a group; a number is itself. `None` for an unknown
/// name. See getgrnam(3).
pub fn group(name_or_number: &str) -> Result<Option<u32>, Errno> {
    if let Some(gid) = number(name_or_number) {
        return Ok(Some(gid));
    }
    let Ok(name) = CString::new(name_or_number) else {
        return Ok(None);
    };
    with_growing_buffer(|buffer| {
        let mut entry = MaybeUninit::<libc::group>::uninit();
        let mut result = ptr::null_mut();
        // SAFETY: `name` is a C string; entry, buffer and result are valid for writing.
        let code = unsafe {
            let (start, bytes) = (buffer.as_mut_ptr(), buffer.len());
            libc::getgrnam_r(name.as_ptr(), entry.as_mut_ptr(), start, bytes, &raw mut result)
        };
        // SAFETY: where it is not null, the result points to `entry`, which is filled then.
        (code, unsafe { result.as_ref() }.map(|group| group.gr_gid))
    })
}

/// `getgrouplist(name, gid)`: returns the groups of a user, the primary one included.
///
/// A user without a name has its primary group only, if it is known. See getgrouplist(3).
pub fn groups_of(user: &User) -> Result<Vec<u32>, Errno> {
    let (Some(name), Some(gid)) = (&user.name, user.gid) else {
        return Ok(user.gid.into_iter().collect());
    };
    let name = CString::new(name.as_str()).map_err(|_| Errno::EINVAL)?;
    let mut groups = vec![0; 64];
    loop {
        let mut count = i32::try_from(groups.len()).unwrap_or(i32::MAX);
        // SAFETY: `name` is a C string, and `groups` is valid for writing `count` numbers.
        let result =
            unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
        let count = usize::try_from(count).unwrap_or(0);
        if result >= 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        if groups.len() >= GROUPS_MAX {
            return Err(Errno(libc::ERANGE));
        }
        groups.resize(count.clamp(groups.len() * 2, GROUPS_MAX), 0);
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|number| *number != NOBODY_AT_ALL)
}

/// Asks for an entry of the user database with one of its reentrant functions.
fn look_up(
    ask: impl Fn(*mut libc::passwd, *mut c_char, usize, *mut *mut libc::passwd) -> i32,
) -> Result<Option<User>, Errno> {
    with_growing_buffer(|buffer| {
        let mut entry = MaybeUninit::uninit();
        let mut result = ptr::null_mut();
        let (start, bytes) = (buffer.as_mut_ptr(), buffer.len());
        let code = ask(entry.as_mut_ptr(), start, bytes, &raw mut result);
        // SAFETY: where it is not null, the result points to `entry`, which is filled then, with
        // pointers into the buffer, which is alive.
        let found = unsafe { result.as_ref().map(|entry| user_of(entry)) };
        (code, found)
    })
}

/// # Safety
///
/// The C library filled the entry, and the buffer it did that with is alive.
unsafe fn user_of(entry: &libc::passwd) -> User {
    let path = |bytes: Vec<u8>| PathBuf::from(OsString::from_vec(bytes));
    // SAFETY: by the caller's promise the members are null or C strings.
    let (name, home, shell) =
        unsafe { (bytes_of(entry.pw_name), bytes_of(entry.pw_dir), bytes_of(entry.pw_shell)) };
    User {
        name: name.and_then(|bytes| String::from_utf8(bytes).ok()),
        uid: entry.pw_uid,
        gid: Some(entry.pw_gid),
        home: home.map(path),
        shell: shell.map(path),
    }
}

/// Returns a copy of a string; `None` for a missing or empty one.
///
/// # Safety
///
/// The pointer is null or to a C string.
unsafe fn bytes_of(string: *const c_char) -> Option<Vec<u8>> {
    if string.is_null() {
        return None;
    }
    // SAFETY: not null, and so a C string by the caller's promise.
    let bytes = unsafe { CStr::from_ptr(string) }.to_bytes().to_vec();
    (!bytes.is_empty()).then_some(bytes)
}

/// Repeats a call with a larger buffer for as long as it answers ERANGE.
fn with_growing_buffer<T>(
    mut call: impl FnMut(&mut [c_char]) -> (i32, Option<T>),
) -> Result<Option<T>, Errno> {
    let mut buffer = vec![0; BUFFER_BYTES_FIRST];
    loop {
        match call(&mut buffer) {
            (0, found) => return Ok(found),
            (libc::EINTR, _) => {}
            (libc::ERANGE, _) if buffer.len() < BUFFER_BYTES_MAX => {
                buffer.resize(buffer.len() * 2, 0);
            }
            // Some name services say so instead of "no entry".
            (libc::ENOENT | libc::ESRCH, _) => return Ok(None),
            (code, _) => return Err(Errno(code)),
        }
    }
}
