//! What a proxy says to its warden, one message each ([`keepd_os::channel`]).
//!
//! | message | with it | what |
//! | --- | --- | --- |
//! | `hold⇥N⇥LABEL…` | the descriptor | keep a copy under this number |
//! | `drop⇥N` | | close it |
//! | `ready` | | the loop is reached |
//! | `exit⇥CODE` | | I end because I was asked to |
//! | `exec⇥CODE⇥ARG…` | | the same, and this program is to take the place |
//! | `refused⇥WHY` | | no successor could go on: the ledger cannot be used, nothing was touched |
//!
//! A warden answers nothing; what it passes on are signals, by kill(2). Fields have the escapes of
//! the extended protocol, and there is no line feed.

use std::fmt;
use std::os::fd::RawFd;

use keepd_os::channel::MESSAGE_BYTES_MAX;
use keepd_wire::words;

use crate::estate::{Label, bytes, number, read_descriptor, read_number, word};

/// A message of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToWarden {
    /// The descriptor that comes with it is to be kept under this number.
    Hold(RawFd, Label),
    /// What is kept under this number is to be closed.
    Drop(RawFd),
    /// The start is over.
    Ready,
    /// The proxy ends with this code, because it was asked to.
    Exit(u8),
    /// The same, and this program takes the place of the warden.
    Exec {
        /// What it is told of the end.
        code: u8,
        /// Program and arguments.
        arguments: Vec<Vec<u8>>,
    },
    /// What a predecessor left cannot be used, by no successor, because of this. Nothing was
    /// touched.
    Refused(String),
}

/// A message would be longer than [`MESSAGE_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a message to the warden has at most {MESSAGE_BYTES_MAX} bytes")
    }
}

impl std::error::Error for TooLong {}

impl ToWarden {
    /// Returns the message.
    ///
    /// # Errors
    ///
    /// [`TooLong`], for the words of a program or a path.
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let mut fields = Vec::new();
        match self {
            Self::Hold(descriptor, label) => {
                fields.extend([word("hold"), number(descriptor)]);
                label.push_fields(&mut fields);
            }
            Self::Drop(descriptor) => fields.extend([word("drop"), number(descriptor)]),
            Self::Ready => fields.push(word("ready")),
            Self::Exit(code) => fields.extend([word("exit"), number(code)]),
            Self::Exec { code, arguments } => {
                fields.extend([word("exec"), number(code)]);
                fields.extend(arguments.iter().map(|argument| bytes(argument)));
            }
            Self::Refused(why) => fields.extend([word("refused"), bytes(why.as_bytes())]),
        }
        let mut message = Vec::new();
        words::join(fields, &mut message);
        message.pop();
        if message.len() > MESSAGE_BYTES_MAX { Err(TooLong) } else { Ok(message) }
    }

    /// Reads a message; `None` for what no version so far says.
    pub fn decode(message: &[u8]) -> Option<Self> {
        let fields = words::split(message).ok()?;
        let (name, rest) = fields.split_first()?;
        Some(match (name.as_ref(), rest) {
            (b"hold", [descriptor, label @ ..]) => {
                Self::Hold(read_descriptor(descriptor)?, Label::read(label)?)
            }
            (b"drop", [descriptor]) => Self::Drop(read_descriptor(descriptor)?),
            (b"ready", []) => Self::Ready,
            (b"exit", [code]) => Self::Exit(read_code(code)?),
            (b"exec", [code, arguments @ ..]) if !arguments.is_empty() => {
                let arguments = arguments.iter().map(|argument| argument.to_vec()).collect();
                Self::Exec { code: read_code(code)?, arguments }
            }
            (b"refused", [why]) => Self::Refused(String::from_utf8_lossy(why).into_owned()),
            (_, _) => return None,
        })
    }
}

fn read_code(field: &[u8]) -> Option<u8> {
    read_number(field, u64::from(u8::MAX)).and_then(|code| u8::try_from(code).ok())
}

#[cfg(test)]
mod tests {
    use keepd_model::Pid;

    use super::*;

    #[test]
    fn every_message_comes_back() {
        let path = b"/run/a\tb\n".to_vec();
        for message in [
            ToWarden::Hold(256, Label::Listener { path }),
            ToWarden::Hold(300, Label::Pidfd { pid: Pid::new(7).unwrap() }),
            ToWarden::Drop(256),
            ToWarden::Ready,
            ToWarden::Exit(0),
            ToWarden::Exit(255),
            ToWarden::Exec { code: 111, arguments: vec![b"/bin/sh".to_vec(), b"".to_vec()] },
            ToWarden::Refused("it is\tdamaged".to_owned()),
        ] {
            let encoded = message.encode().unwrap();
            assert!(!encoded.contains(&b'\n'));
            assert_eq!(ToWarden::decode(&encoded), Some(message));
        }
    }

    #[test]
    fn what_is_none_is_refused_and_what_is_too_long_too() {
        for bad in
            [&b""[..], b"ready\t", b"exit\t256", b"exit", b"exec\t1", b"hold\t256", b"drop\tx"]
        {
            assert_eq!(ToWarden::decode(bad), None, "{}", bad.escape_ascii());
        }
        let arguments = vec![vec![b'x'; MESSAGE_BYTES_MAX]];
        assert_eq!(ToWarden::Exec { code: 0, arguments }.encode(), Err(TooLong));
    }
}
