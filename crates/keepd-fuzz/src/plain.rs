//! Lines of daemonproxy's language.

use keepd_compat::{Refusal, decode_line};
use keepd_model::Instant;
use keepd_model::protocol::{Command, Request};
use keepd_wire::{decode_request, encode_request};

/// An hour after the start of the clock, so that times may lie before it.
const NOW: Instant = Instant::from_nanos(3_600_000_000_000);

/// Lines from a client that was never upgraded: what is read can be said on an extended connection
/// and means the same there; what is refused has a reason of one line.
pub fn plain(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        match decode_line(NOW, line) {
            Ok(None | Some(Command::Proto { .. } | Command::EventTimeout { .. })) => {}
            Ok(Some(command)) => {
                let request = Request::Unnumbered(command);
                let mut written = Vec::new();
                encode_request(&request, &mut written);
                assert_eq!(written.pop(), Some(b'\n'));
                let again = decode_request(&written);
                assert_eq!(again, Ok(Some(request)), "written as {}", written.escape_ascii());
            }
            Err(Refusal::UnknownCommand) => {}
            Err(Refusal::Invalid { text, makes: _ }) => {
                assert!(!text.is_empty() && !text.contains(['\n', '\t']), "{text:?}");
            }
        }
    }
}
