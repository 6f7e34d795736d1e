//! One line of output of a service, for people and for programs.

use keepd_model::protocol::Stream;
use serde::Serialize;

use super::color::{paint_dim, paint_name};
use crate::logs::LogLine;
use crate::time::timestamp;

/// Puts this behind a line with escapes in it, so that a colour does not run on into the next one.
const RESET: &[u8] = b"\x1b[0m";

/// Appends `2026-11-21T07:02:55.123Z web | text` and a line feed; `!` stands for standard error.
///
/// The bytes of the service are left as they are.
pub fn append_text_line(line: &LogLine, colored: bool, out: &mut Vec<u8>) {
    let time = line.stamp.map_or_else(|| "-".to_owned(), |stamp| timestamp(stamp.wall_ns));
    let name = line.service.as_str();
    let mark = match line.stream {
        Stream::Out => "|",
        Stream::Err => "!",
    };
    let head = if colored {
        format!("{} {} ", paint_dim(&time), paint_name(name, &format!("{name} {mark}")))
    } else {
        format!("{time} {name} {mark} ")
    };
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(&line.bytes);
    if colored && line.bytes.contains(&b'\x1b') {
        out.extend_from_slice(RESET);
    }
    out.push(b'\n');
}

/// The JSON object of a line. Bytes that are not UTF-8 are in `message_base64`.
#[derive(Serialize)]
struct LineObject<'a> {
    time: Option<String>,
    service: &'a str,
    stream: &'static str,
    generation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_base64: Option<String>,
}

/// Appends the line as one JSON object and a line feed.
pub fn append_json_line(line: &LogLine, out: &mut Vec<u8>) {
    let message = std::str::from_utf8(&line.bytes).ok();
    let object = LineObject {
        time: line.stamp.map(|stamp| timestamp(stamp.wall_ns)),
        service: line.service.as_str(),
        stream: line.stream.word(),
        generation: line.stamp.map(|stamp| stamp.generation.get()),
        message,
        message_base64: message.is_none().then(|| base64(&line.bytes)),
    };
    serde_json::to_writer(&mut *out, &object)
        .expect("an object of texts and numbers can be written to memory");
    out.push(b'\n');
}

/// Returns bytes in base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            // A chunk of n bytes fills n + 1 letters.
            if at <= chunk.len() {
                let index = bits >> (18 - 6 * at) & 0x3f;
                text.push(char::from(LETTERS[index as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::Stamp;
    use keepd_model::{Generation, Instant, ServiceName};

    fn line(stream: Stream, bytes: &[u8]) -> LogLine {
        LogLine {
            service: ServiceName::new("web").unwrap(),
            stream,
            stamp: Some(Stamp {
                wall_ns: 1_795_244_575_123_000_000,
                monotonic: Instant::ZERO,
                generation: Generation::new(4),
            }),
            bytes: bytes.to_vec(),
            partial: false,
        }
    }

    fn text(line: &LogLine, colored: bool) -> String {
        let mut out = Vec::new();
        append_text_line(line, colored, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn json(line: &LogLine) -> String {
        let mut out = Vec::new();
        append_json_line(line, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_has_time_name_and_stream() {
        assert_eq!(
            text(&line(Stream::Out, b"hello"), false),
            "2026-11-21T07:02:55.123Z web | hello\n"
        );
        assert_eq!(text(&line(Stream::Err, b""), false), "2026-11-21T07:02:55.123Z web ! \n");
        let mut unknown = line(Stream::Out, b"x");
        unknown.stamp = None;
        assert_eq!(text(&unknown, false), "- web | x\n");
    }

    #[test]
    fn colours_end_with_the_line() {
        let plain = text(&line(Stream::Out, b"hello"), true);
        assert!(plain.starts_with("\x1b[2m2026-11-21T07:02:55.123Z\x1b[0m \x1b["), "{plain:?}");
        assert!(plain.ends_with("web |\x1b[0m hello\n"), "{plain:?}");
        assert!(text(&line(Stream::Out, b"\x1b[31mred"), true).ends_with("red\x1b[0m\n"));
    }

    #[test]
    fn json_keeps_every_byte() {
        assert_eq!(
            json(&line(Stream::Err, b"say \"hi\"")),
            "{\"time\":\"2026-11-21T07:02:55.123Z\",\"service\":\"web\",\"stream\":\"err\",\
             \"generation\":4,\"message\":\"say \\\"hi\\\"\"}\n"
        );
        let odd = json(&line(Stream::Out, &[0xff, 0x00]));
        assert!(odd.ends_with("\"generation\":4,\"message_base64\":\"/wA=\"}\n"), "{odd}");
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in pairs {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
