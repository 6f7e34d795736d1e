//! Where a value comes from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where one value comes from, from the weakest source to the strongest.
///
/// ```
/// use keepd::config::Origin;
///
/// let origin = Origin::File { path: "daemon.toml".into(), line: Some(3) };
/// assert_eq!(origin.to_string(), "\"daemon.toml\" line 3");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A file or a drop-in.
    File {
        /// The file.
        path: PathBuf,
        /// The line, beginning with 1, where the format tells it.
        line: Option<usize>,
    },
    /// A variable of the environment.
    Variable(String),
    /// The program itself: `ConfigLoader::set` or a provider.
    Program,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: Some(line) } => write!(f, "{path:?} line {line}"),
            Self::File { path, line: None } => write!(f, "{path:?}"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Program => f.write_str("the program"),
        }
    }
}

/// Where each value of a loaded configuration comes from.
///
/// ```
/// use keepd::config::ConfigLoader;
///
/// let mut loader = ConfigLoader::new().variables([("DAEMON_NAME", "web")]);
/// loader.load()?;
/// assert_eq!(loader.origins().of("name").to_string(), "variable DAEMON_NAME");
/// # Ok::<(), keepd::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// Returns where the value of a key comes from; the key is a path such as `shutdown.graceful`.
    pub fn of(&self, key: &str) -> &Origin {
        self.0.get(key).unwrap_or(&Origin::Default)
    }

    /// Returns the keys that are not at their defaults, with their origins, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Origin)> {
        self.0.iter().map(|(key, origin)| (key.as_str(), origin))
    }

    pub(super) fn set(&mut self, key: &str, origin: Origin) {
        self.0.insert(key.to_owned(), origin);
    }
}
