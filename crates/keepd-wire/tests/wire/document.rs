//! The extended conversations of `docs/protocol.md` are real: every line of a client is read, every
//! line of the proxy is one that it writes, and refusals have exactly the words shown. The plain
//! conversations are tests of keepd-compat.

use keepd_model::protocol::{Command, Event, Message, Request, VERSION};
use keepd_wire::{decode_message, decode_request, encode_message, encode_request};

use crate::refusals::tabs;

const DOCUMENT: &str = include_str!("../../../../docs/protocol.md");

/// Returns the lines of each conversation.
fn conversations() -> Vec<Vec<&'static str>> {
    let mut conversations = Vec::new();
    let mut open: Option<Vec<&'static str>> = None;
    for line in DOCUMENT.lines() {
        match (line, &mut open) {
            ("```", Some(_)) => conversations.extend(open.take()),
            ("```extended", None) => open = Some(Vec::new()),
            (line, Some(conversation)) => conversation.push(line),
            (_, None) => {}
        }
    }
    conversations
}

fn written(message: &Message) -> String {
    let mut out = Vec::new();
    encode_message(message, &mut out);
    String::from_utf8(out).unwrap().trim_end().to_owned()
}

/// The line that makes a connection an extended one is read by the plain front end.
fn upgrade() -> String {
    let mut out = Vec::new();
    encode_request(&Request::Unnumbered(Command::Proto { version: VERSION }), &mut out);
    String::from_utf8(out).unwrap().trim_end().to_owned()
}

#[test]
fn every_line_of_the_conversations_is_real() {
    let (mut asked, mut heard, mut refused) = (0, 0, 0);
    for conversation in conversations() {
        let mut expected_refusal: Option<String> = None;
        for line in conversation {
            let text = String::from_utf8(tabs(&line[3.min(line.len())..])).unwrap();
            if line.starts_with("C> ") {
                assert_eq!(expected_refusal, None, "before {line}");
                match decode_request(text.as_bytes()) {
                    _ if text == upgrade() => asked += 1,
                    Ok(Some(_)) => asked += 1,
                    Ok(None) => panic!("{line} is no command"),
                    Err(error) => expected_refusal = Some(written(&error.into_message())),
                }
            } else if let Some(expected) = expected_refusal.take() {
                assert_eq!(text, expected);
                refused += 1;
            } else if line.starts_with("P> ") {
                let message = decode_message(text.as_bytes());
                let message = message.unwrap().unwrap_or_else(|| panic!("{line} is unknown"));
                assert_eq!(written(&message), text);
                heard += 1;
            }
        }
        assert_eq!(expected_refusal, None);
    }
    assert!(
        asked >= 15 && heard >= 40 && refused >= 4,
        "{asked} asked, {heard} heard, {refused} refused"
    );
}

#[test]
fn a_dump_is_shown_whole() {
    let dump_ends = conversations()
        .iter()
        .flatten()
        .filter_map(|line| line.strip_prefix("P> "))
        .filter_map(|line| decode_message(&tabs(line)).ok().flatten())
        .filter(|message| matches!(message, Message::Event(Event::DumpEnd { .. })))
        .count();
    assert!(dump_ends > 0);
}
