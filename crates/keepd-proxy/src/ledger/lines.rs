//! What stands in the records of the journal: facts as lines of the extended protocol, and a remark
//! of the proxy for its successor, which is a comment there.

use keepd_engine::proxy::Fact;
use keepd_model::protocol::{Event, Message, Request};
use keepd_wire::ledger::journal::Record;
use keepd_wire::{decode_message, decode_request, encode_message, encode_request};

/// The configuration was read to its end; a successor does not read it again.
pub(super) const CONFIGURED: &[u8] = b"# configured";

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Something for the machine.
    Fact(Fact),
    /// [`CONFIGURED`].
    Configured,
    /// Another comment.
    Nothing,
}

/// Returns a fact as a line, without its line feed.
pub(super) fn write(fact: &Fact) -> Vec<u8> {
    let mut line = Vec::new();
    match fact {
        Fact::Command(command) => {
            encode_request(&Request::Unnumbered(command.clone()), &mut line);
        }
        Fact::Event(event) => encode_message(&Message::Event(event.clone()), &mut line),
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    line
}

/// Returns the record of a fact that was written as this line.
pub(super) fn record_of<'a>(fact: &Fact, line: &'a [u8]) -> Record<'a> {
    match fact {
        Fact::Command(_) => Record::Command(line),
        Fact::Event(_) => Record::Event(line),
    }
}

/// Reads an event of a predecessor; `None`: this program writes none like it.
pub(super) fn read_event(line: &[u8]) -> Option<Fact> {
    match decode_message(line).ok()?? {
        Message::Event(event @ (Event::Invocation { .. } | Event::Notify { .. })) => {
            Some(Fact::Event(event))
        }
        Message::Event(_)
        | Message::ProtoAccepted { .. }
        | Message::Reply(..)
        | Message::Text(_)
        | Message::Error(_) => None,
    }
}

/// Reads a command of a predecessor; `None`: this program writes none like it.
pub(super) fn read(line: &[u8]) -> Option<Line> {
    if line == CONFIGURED {
        return Some(Line::Configured);
    }
    Some(match decode_request(line).ok()? {
        Some(Request::Unnumbered(command) | Request::Numbered(_, command)) => {
            Line::Fact(Fact::Command(command))
        }
        None => Line::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use keepd_model::protocol::Command;
    use keepd_model::{Generation, ServiceName};

    use super::*;

    #[test]
    fn lines_come_back() {
        let name = ServiceName::new("web").unwrap();
        let arguments = vec![b"/bin/web".to_vec(), b"a\tb\nc\\".to_vec()];
        let command = Fact::Command(Command::ServiceArgs { name: name.clone(), arguments });
        let line = write(&command);
        assert!(!line.contains(&b'\n'), "{line:?}");
        assert_eq!(record_of(&command, &line), Record::Command(&line));
        assert_eq!(read(&line), Some(Line::Fact(command)));
        let event =
            Fact::Event(Event::Invocation { name, generation: Generation::new(3), id: 0xAB });
        let line = write(&event);
        assert_eq!(record_of(&event, &line), Record::Event(&line));
        assert_eq!(read_event(&line), Some(event));
        assert_eq!(read(CONFIGURED), Some(Line::Configured));
        assert_eq!(read(b"# another remark"), Some(Line::Nothing));
        assert_eq!(read(b"service.unheard\tweb"), None);
        assert_eq!(read_event(b"service.invocation\tweb\tx"), None);
        assert_eq!(read_event(b"service.deleted\tweb"), None);
    }
}
