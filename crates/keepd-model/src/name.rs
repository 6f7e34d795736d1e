//! Names of services.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The longest name of a service in bytes, instance included.
pub const SERVICE_NAME_BYTES_MAX: usize = 63;

/// The longest base name, before an `@`.
const BASE_BYTES_MAX: usize = 31;

/// The name of a service: `[A-Za-z0-9_][A-Za-z0-9._-]{0,30}`, for an instance followed by `@` and
/// `[A-Za-z0-9._:-]{1,31}`. Cheap to clone; ordered by byte.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Arc<str>);

/// Why a text is no service name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameError {
    /// There are no bytes.
    Empty,
    /// The base has more than 31 bytes, or the instance has.
    TooLong,
    /// The byte at this offset is not allowed there.
    Byte {
        /// Offset in bytes from the start of the text.
        offset: usize,
        /// The character found.
        found: char,
    },
    /// `all`, or a name that begins with `keepd.`, asked for by a user.
    Reserved,
}

impl fmt::Display for NameError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(formatter, "a service name must not be empty"),
            Self::TooLong => write!(
                formatter,
                "a service name has at most {BASE_BYTES_MAX} bytes, and an instance as many after \
                 the @"
            ),
            Self::Byte { offset, found } => write!(
                formatter,
                "a service name must not hold {found:?} (at byte {offset}); allowed are letters, \
                 digits, \".\", \"_\" and \"-\""
            ),
            Self::Reserved => {
                write!(
                    formatter,
                    "the name is reserved (\"all\", and names that begin with \"keepd.\")"
                )
            }
        }
    }
}

impl std::error::Error for NameError {}

impl ServiceName {
    /// Parses a name that a user chose: the grammar holds and the name is not reserved.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let name = Self::new_internal(text)?;
        if let Some(found @ ('.' | '-')) = text.chars().next() {
            return Err(NameError::Byte { offset: 0, found });
        }
        if text == "all" || text.starts_with("keepd.") {
            return Err(NameError::Reserved);
        }
        Ok(name)
    }

    /// Parses a name on the protocol, where keepd's own services (`keepd.…`) have names too, and
    /// where daemonproxy's may begin with `.` and `-`.
    pub fn new_internal(text: &str) -> Result<Self, NameError> {
        let (base, instance) = match text.split_once('@') {
            Some((base, instance)) => (base, Some(instance)),
            None => (text, None),
        };
        check(base, 0, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))?;
        if let Some(instance) = instance {
            check(instance, base.len() + 1, |byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-')
            })?;
        }
        Ok(Self(Arc::from(text)))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the part before the `@`, or the whole name.
    pub fn base(&self) -> &str {
        self.0.split_once('@').map_or(&*self.0, |(base, _)| base)
    }

    /// Returns the part after the `@`.
    pub fn instance(&self) -> Option<&str> {
        self.0.split_once('@').map(|(_, instance)| instance)
    }

    /// Reports whether this is one of keepd's own services (`keepd.manager`).
    pub fn is_internal(&self) -> bool {
        self.0.starts_with("keepd.")
    }
}

fn check(part: &str, start: usize, allowed: impl Fn(u8) -> bool) -> Result<(), NameError> {
    if part.is_empty() {
        return Err(NameError::Empty);
    }
    for (offset, found) in part.char_indices() {
        let fits = u8::try_from(found).is_ok_and(|byte| byte.is_ascii() && allowed(byte));
        if !fits {
            return Err(NameError::Byte { offset: start + offset, found });
        }
    }
    if part.len() > BASE_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    Ok(())
}

impl fmt::Display for ServiceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", &*self.0)
    }
}

impl Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_the_documented_one() {
        for good in ["web", "_x", "9", "a.b-c_d", "web@1", "web@a:b", &"a".repeat(31)] {
            assert!(ServiceName::new(good).is_ok(), "{good}");
        }
        assert_eq!(ServiceName::new(""), Err(NameError::Empty));
        assert_eq!(ServiceName::new("web@"), Err(NameError::Empty));
        assert_eq!(ServiceName::new(&"a".repeat(32)), Err(NameError::TooLong));
        assert_eq!(ServiceName::new("-x"), Err(NameError::Byte { offset: 0, found: '-' }));
        assert_eq!(ServiceName::new("a/b"), Err(NameError::Byte { offset: 1, found: '/' }));
        assert_eq!(ServiceName::new("w@a@b"), Err(NameError::Byte { offset: 3, found: '@' }));
        assert_eq!(ServiceName::new("all"), Err(NameError::Reserved));
        assert_eq!(ServiceName::new("keepd.manager"), Err(NameError::Reserved));
    }

    #[test]
    fn an_instance_is_told_from_its_base() {
        let name = ServiceName::new("web@blue").unwrap();
        assert_eq!((name.base(), name.instance()), ("web", Some("blue")));
        assert!(ServiceName::new_internal("keepd.manager").unwrap().is_internal());
    }
}
