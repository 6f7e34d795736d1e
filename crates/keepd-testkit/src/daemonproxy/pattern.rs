//! Patterns of protocol lines, exact to the end of the line.

/// One piece of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'a> {
    /// These bytes.
    Literal(&'a [u8]),
    /// Bytes of a kind, which are captured.
    Hole(Kind),
}

/// What may stand in a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `{num}`: decimal digits.
    Number,
    /// `{pid}`: decimal digits, the first of which is not 0.
    Pid,
    /// `{any}`: anything within a field, also nothing.
    Field,
    /// `{rest}`: anything, tabs too.
    Rest,
}

impl Kind {
    const ALL: [(&'static str, Self); 4] = [
        ("{num}", Self::Number),
        ("{pid}", Self::Pid),
        ("{any}", Self::Field),
        ("{rest}", Self::Rest),
    ];

    /// Returns how many bytes at the beginning of `text` this can take at most.
    fn reach(self, text: &[u8]) -> usize {
        let fits = |byte: &u8| match self {
            Self::Number | Self::Pid => byte.is_ascii_digit(),
            Self::Field => *byte != b'\t',
            Self::Rest => true,
        };
        text.iter().take_while(|byte| fits(byte)).count()
    }

    fn takes(self, text: &[u8]) -> bool {
        match self {
            Self::Number => !text.is_empty(),
            Self::Pid => text.first().is_some_and(|first| *first != b'0'),
            Self::Field | Self::Rest => true,
        }
    }
}

/// Compares a whole line with a pattern, and returns what its holes captured, in order.
pub(super) fn captures(pattern: &str, line: &[u8]) -> Option<Vec<String>> {
    let mut captured = Vec::new();
    fits(&pieces(pattern), line, &mut captured).then_some(captured)
}

fn pieces(pattern: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = pattern;
    loop {
        let next = Kind::ALL.iter().filter_map(|(word, kind)| Some((rest.find(word)?, word, kind)));
        let Some((begin, word, kind)) = next.min_by_key(|(begin, ..)| *begin) else {
            pieces.push(Piece::Literal(rest.as_bytes()));
            return pieces;
        };
        pieces.push(Piece::Literal(&rest.as_bytes()[..begin]));
        pieces.push(Piece::Hole(*kind));
        rest = &rest[begin + word.len()..];
    }
}

fn fits(pieces: &[Piece<'_>], line: &[u8], captured: &mut Vec<String>) -> bool {
    let Some((first, rest)) = pieces.split_first() else {
        return line.is_empty();
    };
    match first {
        Piece::Literal(bytes) => {
            line.strip_prefix(*bytes).is_some_and(|line| fits(rest, line, captured))
        }
        Piece::Hole(kind) => (0..=kind.reach(line)).rev().any(|length| {
            let (text, line) = line.split_at(length);
            let before = captured.len();
            captured.push(String::from_utf8_lossy(text).into_owned());
            let good = kind.takes(text) && fits(rest, line, captured);
            if !good {
                captured.truncate(before);
            }
            good
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_exact_to_the_end_of_the_line() {
        let pattern = "service.state\tx\tup\t{num}\t{pid}\t-\t-\t{num}\t-";
        let line = "service.state\tx\tup\t12\t345\t-\t-\t0\t-";
        assert_eq!(captures(pattern, line.as_bytes()).unwrap(), ["12", "345", "0"]);
        for other in [&format!("{line}\t"), &line[..line.len() - 1], &line.replace("345", "045")] {
            assert_eq!(captures(pattern, other.as_bytes()), None, "{other:?}");
        }
    }

    #[test]
    fn a_field_ends_at_a_tab_and_the_rest_does_not() {
        assert_eq!(captures("a\t{any}\tb", b"a\t\tb").unwrap(), [""]);
        assert_eq!(captures("a\t{any}", b"a\tb\tc"), None);
        assert_eq!(captures("a\t{rest}c", b"a\tb\tc").unwrap(), ["b\t"]);
        assert_eq!(captures("x{any}-{num}", b"xa-1-22").unwrap(), ["a-1", "22"]);
        assert_eq!(captures("{nothing}", b"{nothing}").unwrap(), Vec::<String>::new());
    }
}
