//! Damaged lines are read or refused; nothing panics, and nothing is read as what cannot be
//! written.

use keepd_model::protocol::{Message, Request};
use keepd_wire::notify::parse_notify;
use keepd_wire::{
    Line, LineReader, decode_message, decode_request, encode_message, encode_request, index,
};

use crate::generator::Generator;

const MUTATIONS: u64 = 20_000;

/// Changes a few bytes: flips, cuts, doubles, or puts in what has a meaning.
fn mutate(line: &mut Vec<u8>, generator: &mut Generator) {
    for _ in 0..=generator.below(3) {
        let at = generator.below(line.len() as u64 + 1) as usize;
        match generator.below(6) {
            0 => line.truncate(at),
            1 => line.extend_from_within(at..),
            2 if at < line.len() => line[at] ^= 1 << generator.below(8),
            3 if at < line.len() => {
                line.remove(at);
            }
            4 => {
                let digits = generator.next().to_string();
                line.splice(at..at, digits.into_bytes());
            }
            _ => {
                let marks = b"\t\t\\\r@-=+,:#\0\xff0";
                let mark = marks[generator.below(marks.len() as u64) as usize];
                line.insert(at, mark);
            }
        }
    }
    line.retain(|byte| *byte != b'\n');
}

fn request_line(request: &Request) -> Vec<u8> {
    let mut line = Vec::new();
    encode_request(request, &mut line);
    line.pop();
    line
}

fn message_line(message: &Message) -> Vec<u8> {
    let mut line = Vec::new();
    encode_message(message, &mut line);
    line.pop();
    line
}

#[test]
fn damaged_commands_are_read_as_commands_or_refused() {
    let mut generator = Generator::new(11);
    let (mut read, mut refused) = (0, 0);
    for round in 0..MUTATIONS {
        let mut line = request_line(&generator.request(round));
        mutate(&mut line, &mut generator);
        match decode_request(&line) {
            Ok(None) => {}
            Ok(Some(request)) => {
                read += 1;
                assert_eq!(decode_request(&request_line(&request)), Ok(Some(request)));
            }
            Err(error) => {
                refused += 1;
                let answer = error.into_message();
                assert_eq!(decode_message(&message_line(&answer)), Ok(Some(answer)));
            }
        }
    }
    assert!(read > 2_000 && refused > 5_000, "{read} read, {refused} refused");
}

#[test]
fn damaged_messages_are_read_as_messages_or_refused() {
    let mut generator = Generator::new(12);
    let (mut read, mut refused) = (0, 0);
    for round in 0..MUTATIONS {
        let mut line = message_line(&generator.message(round));
        line.truncate(300);
        mutate(&mut line, &mut generator);
        match decode_message(&line) {
            Ok(None) => {}
            Ok(Some(message)) => {
                read += 1;
                assert_eq!(decode_message(&message_line(&message)), Ok(Some(message)));
            }
            Err(_) => refused += 1,
        }
    }
    assert!(read > 2_000 && refused > 2_000, "{read} read, {refused} refused");
}

#[test]
fn any_stream_in_any_pieces_gives_the_same_lines() {
    let mut generator = Generator::new(14);
    for _ in 0..500 {
        let mut stream = generator.bytes(400);
        stream.push(b'\n');
        let limit = 1 + generator.below(30) as usize;
        let whole = lines(&[&stream], limit);
        let pieces: Vec<&[u8]> = stream.chunks(1 + generator.below(9) as usize).collect();
        assert_eq!(lines(&pieces, limit), whole);
    }
}

fn lines(pieces: &[&[u8]], limit: usize) -> Vec<Line> {
    let mut reader = LineReader::new(limit);
    let mut lines = Vec::new();
    for piece in pieces {
        reader.push(piece);
        while let Some(line) = reader.next_line() {
            lines.push(line);
        }
        assert!(reader.buffered_bytes() <= limit);
    }
    lines
}

#[test]
fn any_datagram_and_any_index_is_read() {
    let mut generator = Generator::new(15);
    for _ in 0..MUTATIONS {
        let mut datagram = b"READY=1\nSTATUS=a\nMAINPID=7\nWATCHDOG_USEC=5\nERRNO=2".to_vec();
        mutate(&mut datagram, &mut generator);
        let notification = parse_notify(&datagram);
        if let Some(status) = notification.status {
            assert!(!status.chars().any(char::is_control));
        }
        let bytes = generator.bytes(200);
        let (records, damaged) = index::decode_all(&bytes);
        assert!(records.is_empty());
        assert_eq!(damaged, bytes.len().div_ceil(index::RECORD_BYTES));
    }
}
