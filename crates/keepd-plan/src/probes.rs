//! `ready.*`: the questions that decide when a service is ready.

use keepd_model::{HttpProbe, Probe, TcpProbe, Template};

use crate::field::{Field, integer};
use crate::pattern::line_pattern;

/// The first descriptor that is not one of the three standard ones.
const FD_MIN: u32 = 3;

/// The last descriptor that the usual soft limit of 1,024 allows (setrlimit(2)).
const FD_MAX: u32 = 1_023;

/// The longest path of a unix socket: `sun_path` without its NUL (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Reads `ready.fd`.
pub(crate) fn fd(field: &mut Field<'_, '_>) -> Option<u32> {
    field.whole(FD_MIN, FD_MAX, "a descriptor from 3 to 1023")
}

/// Reads `ready.socket`.
pub(crate) fn socket(field: &mut Field<'_, '_>) -> Option<Probe> {
    let path = file_path(field)?;
    let bytes = path.as_literal().map_or(0, str::len);
    if bytes > SOCKET_PATH_BYTES_MAX {
        let reason = format!(
            "as an absolute path it has {bytes} bytes, and that of a unix socket has at most \
             {SOCKET_PATH_BYTES_MAX}"
        );
        field.refuse(&reason, None);
        return None;
    }
    Some(Probe::Socket(path))
}

/// Reads `ready.file`.
pub(crate) fn file(field: &mut Field<'_, '_>) -> Option<Probe> {
    file_path(field).map(Probe::File)
}

/// Reads a path that cannot be that of a folder: what is there is removed before a start.
fn file_path(field: &mut Field<'_, '_>) -> Option<Template> {
    let text = field.text()?;
    let last = text.rsplit('/').next().unwrap_or(text);
    if !text.is_empty() && matches!(last, "" | "." | "..") {
        field.refuse("it names a folder", None);
        return None;
    }
    field.path()
}

/// Reads `ready.log`.
pub(crate) fn log(field: &mut Field<'_, '_>) -> Option<Probe> {
    let text = field.text()?;
    match line_pattern(text) {
        Ok(_) => Some(Probe::Log(text.to_owned())),
        Err(error) => {
            field.refuse_part(field.entry.value, error.offset, &error.to_string(), None);
            None
        }
    }
}

/// Reads `ready.port`.
pub(crate) fn port(field: &mut Field<'_, '_>) -> Option<Probe> {
    const TAKES: &str = "it takes a port from 1 to 65535, or \"host:port\"";
    let value = field.entry.value;
    let Some(text) = value.get_ref().as_str() else {
        let number = integer(value).and_then(|number| u16::try_from(number).ok());
        let Some(number) = number.filter(|number| *number > 0) else {
            field.refuse(TAKES, None);
            return None;
        };
        let address = Template::literal(&format!("127.0.0.1:{number}"));
        return Some(Probe::Tcp(TcpProbe { address }));
    };
    let address = field.template()?;
    let Some(literal) = address.as_literal() else {
        let is_one_variable = text.starts_with("${") && text.find('}') == Some(text.len() - 1);
        if !is_one_variable {
            return Some(Probe::Tcp(TcpProbe { address }));
        }
        // A variable alone holds what an integer would: the port.
        let mut address = Template::literal("127.0.0.1:");
        address.push_parsed(text).ok()?;
        return Some(Probe::Tcp(TcpProbe { address }));
    };
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    let fits = literal.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && is_port(port));
    if !fits {
        let hint = is_port(literal).then(|| format!("write {literal} without quotes"));
        field.refuse(TAKES, hint);
        return None;
    }
    Some(Probe::Tcp(TcpProbe { address }))
}

/// Reports whether this can be a host: a name, an address, or an IPv6 address in brackets.
fn is_host(host: &str) -> bool {
    let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inside {
        Some(address) => address.parse::<core::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && !host.contains(|letter: char| {
                    letter.is_whitespace()
                        || letter.is_control()
                        || matches!(letter, ':' | '/' | '[' | ']')
                })
        }
    }
}

/// Reads `ready.http`.
pub(crate) fn http(field: &mut Field<'_, '_>) -> Option<Probe> {
    let text = field.text()?;
    if text.starts_with("https://") {
        field.refuse("https is not supported by this version", None);
        return None;
    }
    let rest = text.strip_prefix("http://").unwrap_or_default();
    if rest.is_empty() || rest.starts_with('/') {
        field.refuse("it takes a URL that begins with \"http://\" and a host", None);
        return None;
    }
    // What could end the request line must not come in by the file.
    let url = field.template()?;
    let has_blank = url.as_literal().is_some_and(|url| url.contains(char::is_whitespace));
    if has_blank || text.contains(char::is_control) {
        field.refuse("a URL has no blanks and no control characters", None);
        return None;
    }
    Some(Probe::Http(HttpProbe { url }))
}
