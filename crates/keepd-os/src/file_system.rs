//! What a folder is on: some file systems keep whoever writes waiting for a network.

use std::path::Path;

use keepd_model::Errno;

use crate::errno;

/// File systems whose files are on another machine, by the numbers of statfs(2). A file system in
/// user space may be one, too.
const REMOTE: [(u32, &str); 13] = [
    (0x0000_6969, "NFS"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB"),
    (0x0000_517B, "SMB"),
    (0x0102_1997, "9P"),
    (0x00C3_6400, "Ceph"),
    (0x5346_414F, "AFS"),
    (0x7375_7245, "Coda"),
    (0x0BD0_0BD0, "Lustre"),
    (0x0116_1970, "GFS2"),
    (0x7461_636F, "OCFS2"),
    (0x4750_4653, "GPFS"),
    (0x6573_5546, "FUSE"),
];

/// `statfs(path)`: returns the name of the file system, if it is one whose files are on another
/// machine, or may be. See statfs(2).
pub fn remote_name(path: &Path) -> Result<Option<&'static str>, Errno> {
    let system = rustix::fs::statfs(path).map_err(errno::from_rustix)?;
    // Only 32 bits of it are a number, and some are negative.
    let magic = system.f_type as u32;
    let found = REMOTE.iter().find(|(number, _)| *number == magic);
    Ok(found.map(|(_, name)| *name))
}

/// `statfs(path)`: returns how many bytes a process without privileges can still write there. See
/// statfs(2).
pub fn free_bytes(path: &Path) -> Result<u64, Errno> {
    let system = rustix::fs::statvfs(path).map_err(errno::from_rustix)?;
    Ok(system.f_bavail.saturating_mul(system.f_frsize))
}
