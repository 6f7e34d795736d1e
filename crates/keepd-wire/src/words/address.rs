//! Addresses of sockets as `fd.socket` has them.

// From `core`, which has the numbers of addresses and nothing that could open a socket.
use core::net::{Ipv4Addr, Ipv6Addr};

use keepd_model::{Address, Domain};

use crate::field::{Problem, quoted};
use crate::words::SOCKET_PATH_BYTES_MAX;

/// Reads an address of a domain.
///
/// Unix: a path. Inet: `*` or a dotted quad, then optionally `:PORT`. Inet6: the same with `*` or
/// an address in text form (RFC 4291, 2.2), which needs brackets before a port: `[::1]:80`. There
/// are no names of hosts or ports: looking them up would block.
pub(super) fn read(domain: Domain, text: &[u8]) -> Result<Address, Problem> {
    let address = match domain {
        Domain::Unix => unix(text),
        Domain::Inet => str::from_utf8(text).ok().and_then(inet),
        Domain::Inet6 => str::from_utf8(text).ok().and_then(inet6),
    };
    address.ok_or_else(|| invalid(domain, text))
}

fn invalid(domain: Domain, text: &[u8]) -> Problem {
    let expected = match domain {
        Domain::Unix => format!("a path of at most {SOCKET_PATH_BYTES_MAX} bytes"),
        Domain::Inet => "\"*\" or \"127.0.0.1\", then \":PORT\"".to_owned(),
        Domain::Inet6 => "\"*\", \"::1\" or \"[::1]:PORT\"".to_owned(),
    };
    Problem::new(format!("invalid address {}, {expected} is expected", quoted(text)))
}

fn unix(path: &[u8]) -> Option<Address> {
    let fits = path.len() <= SOCKET_PATH_BYTES_MAX && !path.contains(&0);
    fits.then(|| Address::Unix(path.to_vec()))
}

fn inet(text: &str) -> Option<Address> {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, read_port(port)?),
        None => (text, 0),
    };
    let host = match host {
        "*" => Ipv4Addr::UNSPECIFIED,
        quad => quad.parse().ok()?,
    };
    Some(Address::Inet(host.octets(), port))
}

fn inet6(text: &str) -> Option<Address> {
    let (host, port) = if let Some(rest) = text.strip_prefix('*') {
        (Ipv6Addr::UNSPECIFIED, rest)
    } else if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        (host.parse().ok()?, port)
    } else {
        (text.parse().ok()?, "")
    };
    let port = match port.strip_prefix(':') {
        Some(port) => read_port(port)?,
        None if port.is_empty() => 0,
        None => return None,
    };
    Some(Address::Inet6(host.octets(), port))
}

/// Reads a port. A sign, which `parse` takes, is no digit.
fn read_port(port: &str) -> Option<u16> {
    let is_decimal = port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().ok().filter(|_| is_decimal)
}
