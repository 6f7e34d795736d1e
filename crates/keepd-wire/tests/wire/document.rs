//! The conversations of `docs/protocol.md` are real: every line of a client is read, every line of
//! the proxy is one that it writes, and refusals have exactly the words shown.

use keepd_model::Instant;
use keepd_model::protocol::{Event, Message};
use keepd_wire::{Mode, decode_message, decode_request, encode_message};

use crate::refusals::tabs;

const DOCUMENT: &str = include_str!("../../../../docs/protocol.md");

/// A block of the document that shows a conversation.
struct Conversation {
    mode: Mode,
    lines: Vec<&'static str>,
}

fn conversations() -> Vec<Conversation> {
    let mut conversations = Vec::new();
    let mut open: Option<Conversation> = None;
    for line in DOCUMENT.lines() {
        match (line, &mut open) {
            ("```", Some(_)) => conversations.extend(open.take()),
            ("```plain", None) => open = Some(conversation(Mode::Plain)),
            ("```extended", None) => open = Some(conversation(Mode::Extended)),
            (line, Some(conversation)) => conversation.lines.push(line),
            (_, None) => {}
        }
    }
    conversations
}

const fn conversation(mode: Mode) -> Conversation {
    Conversation { mode, lines: Vec::new() }
}

fn written(message: &Message, mode: Mode) -> String {
    let mut out = Vec::new();
    encode_message(message, mode, Instant::ZERO, &mut out);
    String::from_utf8(out).unwrap().trim_end().to_owned()
}

#[test]
fn every_line_of_the_conversations_is_real() {
    let (mut asked, mut heard, mut refused) = (0, 0, 0);
    for conversation in conversations() {
        let mut mode = conversation.mode;
        let mut expected_refusal: Option<String> = None;
        for line in conversation.lines {
            let text = String::from_utf8(tabs(&line[3.min(line.len())..])).unwrap();
            if line.starts_with("C> ") {
                assert_eq!(expected_refusal, None, "before {line}");
                match decode_request(text.as_bytes(), mode) {
                    Ok(Some(_)) => asked += 1,
                    Ok(None) => panic!("{line} is no command"),
                    Err(error) => expected_refusal = Some(written(&error.into_message(), mode)),
                }
            } else if let Some(expected) = expected_refusal.take() {
                assert_eq!(text, expected);
                refused += 1;
            } else if line.starts_with("P> ")
                && (mode == Mode::Extended || text.starts_with("proto"))
            {
                mode = Mode::Extended;
                let message = decode_message(text.as_bytes());
                let message = message.unwrap().unwrap_or_else(|| panic!("{line} is unknown"));
                assert_eq!(written(&message, mode), text);
                heard += 1;
            }
        }
        assert_eq!(expected_refusal, None);
    }
    assert!(
        asked >= 20 && heard >= 40 && refused >= 8,
        "{asked} asked, {heard} heard, {refused} refused"
    );
}

#[test]
fn a_dump_is_shown_whole() {
    let dump_ends = conversations()
        .iter()
        .flat_map(|conversation| &conversation.lines)
        .filter_map(|line| line.strip_prefix("P> "))
        .filter_map(|line| decode_message(&tabs(line)).ok().flatten())
        .filter(|message| matches!(message, Message::Event(Event::DumpEnd { .. })))
        .count();
    assert!(dump_ends > 0);
}
