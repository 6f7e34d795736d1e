//! Sizes of pools: `N` or `NxSIZE`, and what becomes of one that is out of range.

use std::fmt;

use keepd_compat::Pool;

/// A pool as it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolText {
    /// How many.
    pub count: u64,
    /// Bytes of each, where they were said.
    pub bytes: Option<u64>,
}

/// Why a text is no pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolError(String);

impl fmt::Display for PoolError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "\"{}\" is no pool: \"N\" or \"NxSIZE\" is expected, as in 64x2KiB",
            self.0
        )
    }
}

impl std::error::Error for PoolError {}

/// Reads `N`, `Nx` or `NxM`, where M may end in `b`, `k`, `m` or `g` of any case: alone and with
/// `iB` powers of 1,024, with `B` powers of 1,000.
///
/// # Errors
///
/// Returns the text if it is anything else, or a number beyond 64 bits.
pub fn read(text: &[u8]) -> Result<PoolText, PoolError> {
    let refused = || PoolError(String::from_utf8_lossy(text).into_owned());
    let (count, size) = match text.iter().position(|byte| *byte == b'x') {
        Some(position) => (&text[..position], Some(&text[position + 1..])),
        None => (text, None),
    };
    let count = decimal(count).ok_or_else(refused)?;
    let bytes = match size {
        None | Some(b"") => None,
        Some(size) => Some(read_size(size).ok_or_else(refused)?),
    };
    Ok(PoolText { count, bytes })
}

fn read_size(text: &[u8]) -> Option<u64> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let number = decimal(digits)?;
    let factor = match suffix {
        b"" | b"b" | b"B" => 1,
        [unit, rest @ ..] => {
            let exponent = match unit.to_ascii_lowercase() {
                b'k' => 1,
                b'm' => 2,
                b'g' => 3,
                _ => return None,
            };
            match rest {
                b"" | b"iB" => 1024_u64.pow(exponent),
                b"B" => 1000_u64.pow(exponent),
                _ => return None,
            }
        }
    };
    number.checked_mul(factor)
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let is_decimal = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_decimal)?.parse().ok()
}

/// The range of a pool: lowest and highest count, default, lowest and highest bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) what: &'static str,
    pub(crate) count: (u64, u64),
    pub(crate) bytes_default: u64,
    pub(crate) bytes: (u64, u64),
}

/// `--fd-pool`; the seven built-in handles always fit.
pub(crate) const HANDLES: Range =
    Range { what: "handle", count: (7, 1024), bytes_default: 96, bytes: (32, 4096) };
/// `--service-pool`.
pub(crate) const SERVICES: Range = Range {
    what: "service",
    count: (1, 65_535),
    bytes_default: 512,
    bytes: (64, usize::MAX as u64),
};

impl Range {
    /// Returns the pool, with a sentence for everything that had to be changed.
    pub(crate) fn clamp(self, text: PoolText) -> (Pool, Vec<String>) {
        let mut warnings = Vec::new();
        let count = clamp(text.count, self.count, self.what, "number", &mut warnings);
        let bytes = text.bytes.unwrap_or(self.bytes_default);
        let bytes = clamp(bytes, self.bytes, self.what, "size", &mut warnings);
        let small = |number: u64| usize::try_from(number).expect("the ranges fit a usize");
        (Pool { count: small(count), bytes: small(bytes) }, warnings)
    }
}

fn clamp(
    number: u64,
    (minimum, maximum): (u64, u64),
    what: &str,
    unit: &str,
    warnings: &mut Vec<String>,
) -> u64 {
    if number < minimum {
        warnings.push(format!("{what} pool: the {unit} {number} is below the minimum, {minimum}"));
    }
    if number > maximum {
        warnings.push(format!("{what} pool: the {unit} {number} is above the maximum, {maximum}"));
    }
    number.clamp(minimum, maximum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(count: u64, bytes: Option<u64>) -> Result<PoolText, PoolError> {
        Ok(PoolText { count, bytes })
    }

    #[test]
    fn sizes_have_units_of_1000_and_1024() {
        assert_eq!(read(b"5"), pool(5, None));
        assert_eq!(read(b"5x"), pool(5, None));
        let units: [(&[u8], u64); 12] = [
            (b"5x100", 100),
            (b"5x100b", 100),
            (b"5x100B", 100),
            (b"5x2k", 2048),
            (b"5x2K", 2048),
            (b"5x2kiB", 2048),
            (b"5x2kB", 2000),
            (b"5x2KB", 2000),
            (b"5x2m", 2 << 20),
            (b"5x2MB", 2_000_000),
            (b"5x2g", 2 << 30),
            (b"5x2GiB", 2 << 30),
        ];
        for (text, bytes) in units {
            assert_eq!(read(text), pool(5, Some(bytes)), "{text:?}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let texts: [&[u8]; 14] = [
            b"",
            b"x",
            b"x5",
            b"5 ",
            b" 5",
            b"+5",
            b"-5",
            b"5x1Kb",
            b"5x1t",
            b"5x1TB",
            b"5xk",
            b"5x1x1",
            b"18446744073709551616",
            b"1x18446744073709551615k",
        ];
        for text in texts {
            assert!(read(text).is_err(), "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn what_is_out_of_range_is_changed_and_said() {
        let clamp = |text: &[u8], range: Range| range.clamp(read(text).unwrap());
        assert_eq!(clamp(b"20x64", HANDLES), (Pool { count: 20, bytes: 64 }, vec![]));
        assert_eq!(clamp(b"8", SERVICES), (Pool { count: 8, bytes: 512 }, vec![]));
        let (pool, warnings) = clamp(b"2x8", HANDLES);
        assert_eq!(pool, Pool { count: 7, bytes: 32 });
        assert!(warnings.len() == 2 && warnings.iter().all(|text| text.contains("minimum")));
        let (pool, warnings) = clamp(b"70000", SERVICES);
        assert_eq!(pool.count, 65_535);
        assert!(warnings.len() == 1 && warnings[0].contains("maximum"));
    }
}
