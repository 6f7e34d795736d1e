//! The command line of `keepd proxy`, in daemonproxy's grammar.

use std::fmt;
use std::path::PathBuf;

/// What the proxy is started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Where controllers connect: the path of a Unix stream socket.
    pub socket: Option<PathBuf>,
    /// A stream of commands, read once to its end; `-` is standard input.
    pub config: Option<PathBuf>,
    /// Standard input and output are a connection; its end is the end of the proxy.
    pub interactive: bool,
    /// The folder for notify sockets (`n/NAME`).
    pub run_dir: Option<PathBuf>,
    /// The value of KEEPD_PROJECT for every service of extended connections.
    pub instance: Option<String>,
    /// A writable cgroup2 folder: each generation gets a leaf in it.
    pub group: Option<PathBuf>,
    /// Leave the caller's session, setsid(2).
    pub own_session: bool,
    /// Services that read the proxy's own input get the terminal there: their group is made the
    /// foreground group. The proxy is in the session of the terminal, in the background.
    pub terminal: bool,
}

/// Why the options are not ones to start with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageError {
    /// `--help`.
    Help,
    /// `--version`.
    Version,
    /// There is no such option.
    Unknown(String),
    /// daemonproxy has the option, this version does not.
    Unsupported(String),
    /// The option stands without its argument.
    ArgumentMissing(&'static str),
    /// A word that belongs to no option.
    Superfluous(String),
    /// The argument of this option is not UTF-8.
    NotText(&'static str),
    /// None of `--interactive`, `--config` and `--socket`.
    NothingToDo,
    /// The configuration file is not there.
    NoSuchConfig(PathBuf),
}

impl UsageError {
    /// Returns the exit code that daemonproxy has for it: 1 for what was asked to be shown, 2 for
    /// mistakes.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Help | Self::Version => 1,
            Self::Unknown(_)
            | Self::Unsupported(_)
            | Self::ArgumentMissing(_)
            | Self::Superfluous(_)
            | Self::NotText(_)
            | Self::NothingToDo
            | Self::NoSuchConfig(_) => 2,
        }
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Help => formatter.write_str(HELP),
            Self::Version => write!(
                formatter,
                "keepd proxy (daemonproxy protocol), version {}",
                env!("CARGO_PKG_VERSION")
            ),
            Self::Unknown(option) => write!(formatter, "unknown option \"{option}\""),
            Self::Unsupported(option) => {
                write!(formatter, "option \"{option}\" is not supported by this version")
            }
            Self::ArgumentMissing(option) => {
                write!(formatter, "option \"{option}\" needs an argument")
            }
            Self::Superfluous(word) => write!(formatter, "unknown argument \"{word}\""),
            Self::NotText(option) => {
                write!(formatter, "the argument of option \"{option}\" is not UTF-8")
            }
            Self::NothingToDo => formatter
                .write_str("nothing to do: give --interactive, --config or --socket (see --help)"),
            Self::NoSuchConfig(path) => {
                write!(formatter, "cannot find configuration \"{}\"", path.display())
            }
        }
    }
}

impl std::error::Error for UsageError {}

/// The text of `--help`.
const HELP: &str = "\
Usage: keepd proxy [options]

Supervise services as controllers command; at least one of -i, -c and -S is needed:
  -i, --interactive        take commands from standard input, answer on standard output
  -c, --config FILE        run the commands in FILE (\"-\": standard input)
  -S, --socket PATH        let controllers connect to PATH
      --run-dir DIR        make notify sockets in DIR
      --instance NAME      mark services with KEEPD_PROJECT=NAME
      --group DIR          give each start a leaf of the cgroup at DIR
      --own-session        leave the caller's session
      --terminal           give the terminal at standard input to services that read it
  -h, --help               show this
      --version            show the version";

/// An option that is known by name.
#[derive(Clone, Copy)]
enum Known {
    Interactive,
    Config,
    Socket,
    RunDir,
    Instance,
    Group,
    OwnSession,
    Terminal,
    Help,
    Version,
    Unsupported,
}

/// Every option: short letter, long name. Those of daemonproxy that are not there yet are refused
/// by name.
const KNOWN: [(Option<char>, &str, Known); 18] = [
    (Some('i'), "--interactive", Known::Interactive),
    (Some('c'), "--config", Known::Config),
    (Some('S'), "--socket", Known::Socket),
    (None, "--run-dir", Known::RunDir),
    (None, "--instance", Known::Instance),
    (None, "--group", Known::Group),
    (None, "--own-session", Known::OwnSession),
    (None, "--terminal", Known::Terminal),
    (Some('h'), "--help", Known::Help),
    (None, "--version", Known::Version),
    (Some('D'), "--daemonize", Known::Unsupported),
    (None, "--exit-guard", Known::Unsupported),
    (Some('E'), "--exit-exec", Known::Unsupported),
    (None, "--fd-pool", Known::Unsupported),
    (None, "--service-pool", Known::Unsupported),
    (Some('M'), "--mlockall", Known::Unsupported),
    (Some('v'), "--verbose", Known::Unsupported),
    (Some('q'), "--quiet", Known::Unsupported),
];

impl Options {
    /// Reads the words after `keepd proxy`.
    ///
    /// Short options cluster, and an option with an argument takes the next word (`-cS FILE PATH`).
    /// A lone `-` is ignored, as by the original. The last of several wins.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the words; also when help or the version is asked for.
    pub fn parse(
        arguments: impl IntoIterator<Item = std::ffi::OsString>,
    ) -> Result<Self, UsageError> {
        let mut options = Self::default();
        let mut words = arguments.into_iter();
        while let Some(word) = words.next() {
            let text = word.to_string_lossy().into_owned();
            if text.starts_with("--") {
                let known = KNOWN.iter().find(|(_, long, _)| *long == text);
                let (_, name, known) = known.ok_or(UsageError::Unknown(text))?;
                options.take(*known, name, &mut words)?;
            } else if let Some(cluster) = text.strip_prefix('-') {
                for letter in cluster.chars() {
                    let known = KNOWN.iter().find(|(short, _, _)| *short == Some(letter));
                    let (_, name, known) =
                        known.ok_or_else(|| UsageError::Unknown(format!("-{letter}")))?;
                    options.take(*known, name, &mut words)?;
                }
            } else {
                return Err(UsageError::Superfluous(text));
            }
        }
        if options.socket.is_none() && options.config.is_none() && !options.interactive {
            return Err(UsageError::NothingToDo);
        }
        match &options.config {
            Some(path) if path.as_os_str() != "-" && !path.exists() => {
                Err(UsageError::NoSuchConfig(path.clone()))
            }
            Some(_) | None => Ok(options),
        }
    }

    fn take(
        &mut self,
        known: Known,
        name: &'static str,
        words: &mut impl Iterator<Item = std::ffi::OsString>,
    ) -> Result<(), UsageError> {
        let mut argument = || words.next().ok_or(UsageError::ArgumentMissing(name));
        match known {
            Known::Interactive => self.interactive = true,
            Known::OwnSession => self.own_session = true,
            Known::Terminal => self.terminal = true,
            Known::Config => self.config = Some(argument()?.into()),
            Known::Socket => self.socket = Some(argument()?.into()),
            Known::RunDir => self.run_dir = Some(argument()?.into()),
            Known::Group => self.group = Some(argument()?.into()),
            Known::Instance => {
                let text = argument()?.into_string();
                self.instance = Some(text.map_err(|_| UsageError::NotText(name))?);
            }
            Known::Help => return Err(UsageError::Help),
            Known::Version => return Err(UsageError::Version),
            Known::Unsupported => return Err(UsageError::Unsupported(name.to_owned())),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, UsageError> {
        Options::parse(words.iter().map(std::ffi::OsString::from))
    }

    #[test]
    fn short_options_cluster_and_take_the_next_words() {
        let options = parse(&["-icS", "/dev/null", "/run/x", "-"]).unwrap();
        assert!(options.interactive);
        assert_eq!(options.config, Some(PathBuf::from("/dev/null")));
        assert_eq!(options.socket, Some(PathBuf::from("/run/x")));
        let long = ["--interactive", "--config", "/dev/null", "--socket", "/run/x"];
        assert_eq!(parse(&long), Ok(options));
    }

    #[test]
    fn mistakes_are_named_and_end_with_2() {
        let unknown = |word: &str| Err(UsageError::Unknown(word.to_owned()));
        assert_eq!(parse(&[]), Err(UsageError::NothingToDo));
        assert_eq!(parse(&["-iz"]), unknown("-z"));
        assert_eq!(parse(&["-i", "--socket=/x"]), unknown("--socket=/x"));
        assert_eq!(parse(&["-i", "--"]), unknown("--"));
        assert_eq!(parse(&["-S"]), Err(UsageError::ArgumentMissing("--socket")));
        assert_eq!(parse(&["x"]), Err(UsageError::Superfluous("x".to_owned())));
        let unsupported = parse(&["-iD"]).unwrap_err();
        assert_eq!(
            unsupported.to_string(),
            "option \"--daemonize\" is not supported by this version"
        );
        assert_eq!(unsupported.exit_code(), 2);
        assert!(matches!(parse(&["-c", "/nonexistent/file"]), Err(UsageError::NoSuchConfig(_))));
    }

    #[test]
    fn help_names_every_option_of_this_version() {
        let help = parse(&["--help"]).unwrap_err();
        assert_eq!(help.exit_code(), 1);
        for (_, name, known) in KNOWN {
            let shown = help.to_string().contains(name);
            assert_eq!(shown, !matches!(known, Known::Unsupported), "{name}");
        }
    }
}
