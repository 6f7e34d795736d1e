//! Who listens on a TCP port of this machine, from /proc/net. See proc_net_tcp(5) and
//! Documentation/networking/proc_net_tcp.rst of the kernel.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use keepd_model::{Errno, Pid};

use crate::errno;
use crate::proc;

/// TCP_LISTEN, as the table writes it.
const LISTENING: &str = "0A";

/// The most bytes of a table that are read: about 400,000 sockets.
const TABLE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Returns the inodes of the sockets that listen on this port for connections to the loopback
/// addresses: on one of them, or on every address.
///
/// Fails where /proc/net cannot be read. It reads tables that the kernel makes while they are read,
/// which takes some milliseconds.
pub fn on_loopback(port: u16) -> Result<BTreeSet<u64>, Errno> {
    let mut inodes = BTreeSet::new();
    let mut known = Err(Errno::ENOENT);
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        match File::open(table) {
            Ok(file) => {
                let lines = BufReader::new(file.take(TABLE_BYTES_MAX));
                read(lines, port, &mut inodes).map_err(|error| errno::from_io(&error))?;
                known = Ok(());
            }
            // One of them is missing where the kernel has only the other.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(errno::from_io(&error)),
        }
    }
    known.map(|()| inodes)
}

fn read(lines: impl BufRead, port: u16, inodes: &mut BTreeSet<u64>) -> std::io::Result<()> {
    for line in lines.lines().skip(1) {
        let line = line?;
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, state) = (fields.next(), fields.nth(1));
        // All that listen come first.
        if state != Some(LISTENING) {
            break;
        }
        let inode = fields.nth(5).and_then(|inode| inode.parse().ok());
        if let (Some((address, found)), Some(inode)) = (local.and_then(parse_address), inode)
            && found == port
            && (address.is_unspecified() || address.to_canonical().is_loopback())
        {
            inodes.insert(inode);
        }
    }
    Ok(())
}

/// Reads `0100007F:1F90`: words of the address as this machine stores them, and the port.
fn parse_address(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let digits = address.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some((address, port))
}

/// Returns a process that holds one of these sockets, as far as it can be found: only in processes
/// that may be looked into, and after at most `looks_max` descriptors.
pub fn holder(inodes: &BTreeSet<u64>, looks_max: usize) -> Option<Pid> {
    let mut looks = 0;
    for pid in proc::all().ok()? {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        for descriptor in descriptors.filter_map(Result::ok) {
            looks += 1;
            if looks > looks_max {
                return None;
            }
            let target = fs::read_link(descriptor.path()).ok();
            let inode = target.as_ref().and_then(|target| {
                target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
            });
            if inode.is_some_and(|inode: u64| inodes.contains(&inode)) {
                return Some(pid);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn addresses_are_read_as_they_are_stored() {
        let parsed = |text| parse_address(text).map(|(address, port)| (address.to_string(), port));
        assert_eq!(parsed("0100007F:1F90"), Some(("127.0.0.1".to_owned(), 8080)));
        let mapped = "0000000000000000FFFF00000100007F:0016";
        assert_eq!(parsed(mapped), Some(("::ffff:127.0.0.1".to_owned(), 22)));
        let own = "00000000000000000000000001000000:0016";
        assert_eq!(parsed(own), Some(("::1".to_owned(), 22)));
        for odd in ["", "0100007F", "0100007F:1F90F", "0100:1", "0x00007F:1F90"] {
            assert_eq!(parsed(odd), None, "{odd}");
        }
    }

    #[test]
    fn lines_that_make_no_sense_are_passed_over() {
        let table = "head
 0: 0100007F:0050 0:0 0A 0:0 0:0 0 0 0 77 1
 1: x 0:0 0A
 2: 0100007F:0050 0:0 0A 0:0 0:0 0 0 0 y 1
 3: 0100007F:0050 0:0 01 0:0 0:0 0 0 0 8 1
";
        let mut inodes = BTreeSet::new();
        read(table.as_bytes(), 0x50, &mut inodes).unwrap();
        assert_eq!(inodes, BTreeSet::from([77]));
        read(&b""[..], 0x50, &mut inodes).unwrap();
    }
}
