//! Lines of the proxy protocol, in both directions.

use keepd_wire::{
    Line, LineReader, RequestError, decode_message, decode_request, encode_message, encode_request,
};

/// Lines from a client: what is read is written in one form, which is read as the same; what is
/// refused has an answer that can be read.
pub fn requests(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        match decode_request(line) {
            Ok(None) => {}
            Ok(Some(request)) => {
                let mut written = Vec::new();
                encode_request(&request, &mut written);
                let again = decode_request(whole_line(&written));
                assert_eq!(again, Ok(Some(request)), "written as {}", shown(&written));
            }
            Err(error) => answer_is_read(error),
        }
    }
}

/// Lines from the proxy: what is read is written in one form, which is read as the same.
pub fn messages(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        match decode_message(line) {
            Ok(None) => {}
            Ok(Some(message)) => {
                let mut written = Vec::new();
                encode_message(&message, &mut written);
                let again = decode_message(whole_line(&written));
                assert_eq!(again, Ok(Some(message)), "written as {}", shown(&written));
            }
            Err(error) => assert!(!error.to_string().contains('\n')),
        }
    }
}

/// A stream in pieces: the first byte is the limit of a line, the second the size of a piece. The
/// lines are those of the whole stream, and no more is kept than the limit.
pub fn stream(bytes: &[u8]) {
    let [limit, piece, stream @ ..] = bytes else {
        return;
    };
    let (limit, piece) = (usize::from(*limit) + 1, usize::from(*piece) + 1);
    let whole = lines(&mut std::iter::once(stream), limit);
    assert_eq!(lines(&mut stream.chunks(piece), limit), whole);
    for line in whole {
        match line {
            Line::Complete(line) => assert!(line.len() <= limit && !line.contains(&b'\n')),
            Line::TooLong { start } => {
                assert!(start.len() <= limit);
                answer_is_read(RequestError::too_long(&start));
            }
        }
    }
}

fn lines(pieces: &mut dyn Iterator<Item = &[u8]>, limit: usize) -> Vec<Line> {
    let mut reader = LineReader::new(limit);
    let mut lines = Vec::new();
    for piece in pieces {
        reader.push(piece);
        lines.extend(std::iter::from_fn(|| reader.next_line()));
        assert!(reader.buffered_bytes() <= limit, "{} bytes wait", reader.buffered_bytes());
    }
    lines.extend(std::iter::from_fn(|| reader.finish()));
    lines
}

fn answer_is_read(error: RequestError) {
    let answer = error.into_message();
    let mut written = Vec::new();
    encode_message(&answer, &mut written);
    let again = decode_message(whole_line(&written));
    assert_eq!(again, Ok(Some(answer)), "written as {}", shown(&written));
}

/// Takes off the line feed, which is the only one.
fn whole_line(written: &[u8]) -> &[u8] {
    let line = written.strip_suffix(b"\n").expect("a written line ends in a line feed");
    assert!(!line.contains(&b'\n'), "more than one line: {}", shown(written));
    line
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
