//! The command line of `keepd proxy` and `daemonproxy`.
//!
//! Each word counts as soon as it is read: what goes wrong behind `--exit-exec` already hands over
//! to that program, and behind `--exit-guard` it ends nothing. So the words are read into a list of
//! steps, which whoever starts the proxy carries out from left to right.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use keepd_model::Errno;

use crate::pool::{self, PoolError, PoolText};

/// The longest argument of `--exit-exec`, in bytes.
pub(crate) const EXIT_EXEC_BYTES_MAX: usize = 255;
/// The first descriptor that is none of the standard ones.
const FIRST_DESCRIPTOR: u32 = 3;

/// What the proxy is started with, but for what its exit is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Where controllers connect: the path of a Unix stream socket.
    pub socket: Option<PathBuf>,
    /// A stream of commands, read once to its end; `-` is standard input.
    pub config: Option<PathBuf>,
    /// Standard input and output are a connection; its end is the end of the proxy.
    pub interactive: bool,
    /// Go on in the background.
    pub daemonize: bool,
    /// Keep all memory out of swap.
    pub lock_memory: bool,
    /// A fixed number of handles.
    pub handle_pool: Option<PoolText>,
    /// A fixed number of services.
    pub service_pool: Option<PoolText>,
    /// The folder for notify sockets (`n/NAME`).
    pub run_dir: Option<PathBuf>,
    /// The value of KEEPD_PROJECT for every service that is marked.
    pub instance: Option<String>,
    /// A writable cgroup2 folder: each generation gets a leaf in it.
    pub group: Option<PathBuf>,
    /// Leave the caller's session, setsid(2).
    pub own_session: bool,
    /// Services that read the proxy's own input get the terminal there: their group is made the
    /// foreground group. The proxy is in the session of the terminal, in the background.
    pub terminal: bool,
    /// The number of the descriptor with everything that the warden holds: there is one above us.
    pub estate: Option<u32>,
    /// The number of the connection to the warden.
    pub channel: Option<u32>,
    /// Nothing is started; why.
    pub safe: Option<String>,
    /// Keep a proxy alive instead of being one.
    pub warden: bool,
}

/// One thing that the command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `-c`: the file is looked for at once.
    Config(PathBuf),
    /// `--exit-guard`; `None`: off.
    Guard(Option<i64>),
    /// `-E`; empty: off.
    ExitExec(Vec<Vec<u8>>),
    /// `-v`.
    Verbose,
    /// `-q`.
    Quiet,
    /// Any other option, as a change of the options.
    Set(Setting),
    /// `-h`.
    Help,
    /// `--version`.
    Version,
    /// A word that nobody understands.
    Mistake(UsageError),
}

/// An option that only says what shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `-i`.
    Interactive,
    /// `-S`.
    Socket(PathBuf),
    /// `-D`.
    Daemonize,
    /// `-M`.
    LockMemory,
    /// `--fd-pool`.
    HandlePool(PoolText),
    /// `--service-pool`.
    ServicePool(PoolText),
    /// `--run-dir`.
    RunDir(PathBuf),
    /// `--instance`.
    Instance(String),
    /// `--group`.
    Group(PathBuf),
    /// `--own-session`.
    OwnSession,
    /// `--terminal`.
    Terminal,
    /// `--estate`.
    Estate(u32),
    /// `--channel`.
    Channel(u32),
    /// `--safe`.
    Safe(String),
    /// `--warden`.
    Warden,
}

/// What is wrong with the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageError {
    /// There is no such option.
    Unknown(String),
    /// The option stands without its argument.
    ArgumentMissing(&'static str),
    /// A word that belongs to no option.
    Superfluous(String),
    /// The argument of this option is not UTF-8.
    NotText(&'static str),
    /// The guard code is no integer of 64 bits.
    Guard(String),
    /// The argument of this option is no number of a descriptor.
    NotADescriptor(&'static str, String),
    /// One of `--estate` and `--channel` without the other, or without `--run-dir`.
    HalfAWarden,
    /// `--exit-exec` has more than 255 bytes.
    ExitExecTooLong,
    /// A pool that cannot be read.
    Pool(&'static str, PoolError),
    /// None of `--interactive`, `--config` and `--socket`.
    NothingToDo,
    /// A warden has no folder for the ledger.
    WardenWithoutRunDir,
    /// The configuration file cannot be looked at.
    NoSuchConfig(PathBuf, Errno),
}

impl fmt::Display for UsageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(option) => {
                write!(formatter, "unknown option \"{option}\" (see --help)")
            }
            Self::ArgumentMissing(option) => {
                write!(formatter, "option \"{option}\" needs an argument")
            }
            Self::Superfluous(word) => {
                write!(formatter, "unknown argument \"{word}\" (see --help)")
            }
            Self::NotText(option) => {
                write!(formatter, "the argument of option \"{option}\" is not UTF-8")
            }
            Self::Guard(text) => {
                write!(formatter, "option \"--exit-guard\" needs an integer, not \"{text}\"")
            }
            Self::NotADescriptor(option, text) => {
                write!(
                    formatter,
                    "option \"{option}\" needs the number of a descriptor, not \"{text}\""
                )
            }
            Self::HalfAWarden => formatter
                .write_str("options \"--estate\", \"--channel\" and \"--run-dir\" belong together"),
            Self::ExitExecTooLong => write!(
                formatter,
                "the argument of option \"--exit-exec\" has more than {EXIT_EXEC_BYTES_MAX} bytes"
            ),
            Self::Pool(option, error) => write!(formatter, "option \"{option}\": {error}"),
            Self::NothingToDo => formatter
                .write_str("nothing to do: give --interactive, --config or --socket (see --help)"),
            Self::WardenWithoutRunDir => {
                formatter.write_str("option \"--warden\" needs \"--run-dir\" (see --help)")
            }
            Self::NoSuchConfig(path, why) => {
                write!(formatter, "cannot find configuration \"{}\": {why}", path.display())
            }
        }
    }
}

impl std::error::Error for UsageError {}

/// The text of `--help`.
pub(crate) const HELP: &str = "\
Usage: keepd proxy [options]      (also as: daemonproxy [options])

Starts processes as controllers command, and tells what becomes of them.
At least one of -i, -c and -S is needed. Short options cluster; an option with an
argument takes the next word.

Controllers and options:
  -i, --interactive         take commands from standard input, answer on standard output;
                            the end of input ends the proxy
  -c, --config FILE         run the commands in FILE, once (\"-\": standard input)
  -S, --socket PATH         let controllers connect to the Unix socket PATH
  -D, --daemonize           go on in the background; the process id is printed
      --exit-guard INT      never end without this code (0: off; 1 as process 1)
  -E, --exit-exec TSV       at the end become this program (arguments with tabs between)
      --fd-pool N[xSIZE]    a fixed number of handles, SIZE bytes of text each
      --service-pool N[xSIZE]
                            a fixed number of services, SIZE bytes of data each
  -M, --mlockall            keep all memory out of swap
  -v, --verbose             say more (twice: everything)
  -q, --quiet               say less
  -h, --help                show this, and end with code 1
      --version             show the version, and end with code 1

Options of keepd:
      --run-dir DIR         make notify sockets in DIR
      --instance NAME       mark services with KEEPD_PROJECT=NAME
      --group DIR           give each start a leaf of the cgroup at DIR
      --own-session         leave the caller's session
      --terminal            give the terminal at standard input to services that read it
      --warden              outlive the loss of any one process of keepd: start the proxy again
                            whenever it is lost, and adopt what runs (needs --run-dir)

Exit codes: 0 end of an interactive session, 1 help and version, 2 command line,
3 start-up, 4 fatal signal, 5 signal set-up, N after \"terminate N\".
";

/// What an option is followed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Nothing.
    Alone(Alone),
    /// Its argument.
    With(With),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alone {
    Interactive,
    Daemonize,
    LockMemory,
    Verbose,
    Quiet,
    Help,
    Version,
    OwnSession,
    Terminal,
    Warden,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum With {
    Config,
    Socket,
    Guard,
    ExitExec,
    HandlePool,
    ServicePool,
    RunDir,
    Instance,
    Group,
    Estate,
    Channel,
    Safe,
}

/// Every option: short letter, long name.
const KNOWN: [(Option<u8>, &str, Known); 19] = [
    (Some(b'i'), "--interactive", Known::Alone(Alone::Interactive)),
    (Some(b'c'), "--config", Known::With(With::Config)),
    (Some(b'S'), "--socket", Known::With(With::Socket)),
    (Some(b'D'), "--daemonize", Known::Alone(Alone::Daemonize)),
    (None, "--exit-guard", Known::With(With::Guard)),
    (Some(b'E'), "--exit-exec", Known::With(With::ExitExec)),
    (None, "--fd-pool", Known::With(With::HandlePool)),
    (None, "--service-pool", Known::With(With::ServicePool)),
    (Some(b'M'), "--mlockall", Known::Alone(Alone::LockMemory)),
    (Some(b'v'), "--verbose", Known::Alone(Alone::Verbose)),
    (Some(b'q'), "--quiet", Known::Alone(Alone::Quiet)),
    (Some(b'h'), "--help", Known::Alone(Alone::Help)),
    (None, "--version", Known::Alone(Alone::Version)),
    (None, "--run-dir", Known::With(With::RunDir)),
    (None, "--instance", Known::With(With::Instance)),
    (None, "--group", Known::With(With::Group)),
    (None, "--own-session", Known::Alone(Alone::OwnSession)),
    (None, "--terminal", Known::Alone(Alone::Terminal)),
    (None, "--warden", Known::Alone(Alone::Warden)),
];

/// What only a warden gives to the proxy that it starts: not for people, and not in the help.
const OF_THE_WARDEN: [(&str, Known); 3] = [
    ("--estate", Known::With(With::Estate)),
    ("--channel", Known::With(With::Channel)),
    ("--safe", Known::With(With::Safe)),
];

/// Returns the option with this long name.
fn known(long: &[u8]) -> Option<(&'static str, Known)> {
    let of_people = KNOWN.iter().map(|(_, name, known)| (*name, *known));
    of_people.chain(OF_THE_WARDEN).find(|(name, _)| name.as_bytes() == long)
}

/// Reads the words after `keepd proxy`.
///
/// Short options cluster, and an option with an argument takes the next word (`-cS FILE PATH`).
/// There are no abbreviations, no `--option=value` and no end mark. A lone `-` is ignored, as by
/// the original.
pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut words = arguments.into_iter();
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if bytes.starts_with(b"--") {
            steps.push(match known(bytes) {
                Some((name, known)) => step(known, name, &mut words),
                None => Step::Mistake(UsageError::Unknown(word.to_string_lossy().into_owned())),
            });
        } else if let Some(cluster) = bytes.strip_prefix(b"-") {
            for letter in cluster {
                let known = KNOWN.iter().find(|(short, _, _)| *short == Some(*letter));
                steps.push(match known {
                    Some((_, name, known)) => step(*known, name, &mut words),
                    None => {
                        let option = format!("-{}", letter.escape_ascii());
                        Step::Mistake(UsageError::Unknown(option))
                    }
                });
            }
        } else {
            let word = word.to_string_lossy().into_owned();
            steps.push(Step::Mistake(UsageError::Superfluous(word)));
        }
    }
    steps
}

fn step(known: Known, name: &'static str, words: &mut impl Iterator<Item = OsString>) -> Step {
    match known {
        Known::Alone(Alone::Verbose) => Step::Verbose,
        Known::Alone(Alone::Quiet) => Step::Quiet,
        Known::Alone(Alone::Help) => Step::Help,
        Known::Alone(Alone::Version) => Step::Version,
        Known::Alone(Alone::Interactive) => Step::Set(Setting::Interactive),
        Known::Alone(Alone::Daemonize) => Step::Set(Setting::Daemonize),
        Known::Alone(Alone::LockMemory) => Step::Set(Setting::LockMemory),
        Known::Alone(Alone::OwnSession) => Step::Set(Setting::OwnSession),
        Known::Alone(Alone::Terminal) => Step::Set(Setting::Terminal),
        Known::Alone(Alone::Warden) => Step::Set(Setting::Warden),
        Known::With(with) => match words.next() {
            Some(argument) => step_with(with, name, argument).unwrap_or_else(Step::Mistake),
            None => Step::Mistake(UsageError::ArgumentMissing(name)),
        },
    }
}

fn step_with(with: With, name: &'static str, argument: OsString) -> Result<Step, UsageError> {
    let pool = || pool::read(argument.as_bytes()).map_err(|error| UsageError::Pool(name, error));
    Ok(match with {
        With::Config => Step::Config(argument.into()),
        With::Guard => Step::Guard(guard(&argument)?),
        With::ExitExec => Step::ExitExec(exit_exec(argument.as_bytes())?),
        With::Socket => Step::Set(Setting::Socket(argument.into())),
        With::HandlePool => Step::Set(Setting::HandlePool(pool()?)),
        With::ServicePool => Step::Set(Setting::ServicePool(pool()?)),
        With::RunDir => Step::Set(Setting::RunDir(argument.into())),
        With::Group => Step::Set(Setting::Group(argument.into())),
        With::Instance => Step::Set(Setting::Instance(
            argument.into_string().map_err(|_| UsageError::NotText(name))?,
        )),
        With::Estate => Step::Set(Setting::Estate(descriptor(name, &argument)?)),
        With::Channel => Step::Set(Setting::Channel(descriptor(name, &argument)?)),
        With::Safe => {
            Step::Set(Setting::Safe(argument.into_string().map_err(|_| UsageError::NotText(name))?))
        }
    })
}

/// Reads the number of a descriptor that is none of the standard ones.
fn descriptor(name: &'static str, argument: &OsStr) -> Result<u32, UsageError> {
    let number = argument.to_str().and_then(|text| text.parse().ok());
    number
        .filter(|number| (FIRST_DESCRIPTOR..=i32::MAX.cast_unsigned()).contains(number))
        .ok_or_else(|| UsageError::NotADescriptor(name, argument.to_string_lossy().into_owned()))
}

/// Reads a guard code: 0, or nothing at all, switches the guard off.
fn guard(argument: &OsStr) -> Result<Option<i64>, UsageError> {
    if argument.is_empty() {
        return Ok(None);
    }
    let refused = || UsageError::Guard(argument.to_string_lossy().into_owned());
    let digits = argument.as_bytes().strip_prefix(b"-").unwrap_or(argument.as_bytes());
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(refused());
    }
    let code: i64 = argument.to_str().and_then(|text| text.parse().ok()).ok_or_else(refused)?;
    Ok((code != 0).then_some(code))
}

/// Splits the argument of `--exit-exec` at its tabs.
fn exit_exec(argument: &[u8]) -> Result<Vec<Vec<u8>>, UsageError> {
    if argument.len() > EXIT_EXEC_BYTES_MAX {
        return Err(UsageError::ExitExecTooLong);
    }
    if argument.is_empty() {
        return Ok(Vec::new());
    }
    Ok(argument.split(|byte| *byte == b'\t').map(<[u8]>::to_vec).collect())
}

impl Options {
    /// Takes what an option says; the last of several wins.
    pub(crate) fn set(&mut self, setting: Setting) {
        match setting {
            Setting::Interactive => self.interactive = true,
            Setting::Socket(path) => self.socket = Some(path),
            Setting::Daemonize => self.daemonize = true,
            Setting::LockMemory => self.lock_memory = true,
            Setting::HandlePool(pool) => self.handle_pool = Some(pool),
            Setting::ServicePool(pool) => self.service_pool = Some(pool),
            Setting::RunDir(path) => self.run_dir = Some(path),
            Setting::Instance(name) => self.instance = Some(name),
            Setting::Group(path) => self.group = Some(path),
            Setting::OwnSession => self.own_session = true,
            Setting::Terminal => self.terminal = true,
            Setting::Estate(number) => self.estate = Some(number),
            Setting::Channel(number) => self.channel = Some(number),
            Setting::Safe(why) => self.safe = Some(why),
            Setting::Warden => self.warden = true,
        }
    }

    /// Reports whether nobody could ever command this proxy.
    pub(crate) fn has_nothing_to_do(&self) -> bool {
        self.socket.is_none() && self.config.is_none() && !self.interactive
    }

    /// Reports whether only some of what a warden gives is there.
    pub(crate) fn has_half_a_warden(&self) -> bool {
        let given = [self.estate.is_some(), self.channel.is_some()];
        given.contains(&true) && (given.contains(&false) || self.run_dir.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(words: &[&str]) -> Vec<Step> {
        read(words.iter().map(OsString::from))
    }

    #[test]
    fn short_options_cluster_and_take_the_next_words() {
        let expected = [
            Step::Set(Setting::Interactive),
            Step::Config("/x".into()),
            Step::Set(Setting::Socket("/run/x".into())),
            Step::Verbose,
        ];
        assert_eq!(steps(&["-icS", "/x", "/run/x", "-", "-v"]), expected);
        let long = ["--interactive", "--config", "/x", "--socket", "/run/x", "--verbose"];
        assert_eq!(steps(&long), expected);
    }

    #[test]
    fn mistakes_are_named_and_what_follows_is_still_read() {
        let unknown = |word: &str| Step::Mistake(UsageError::Unknown(word.to_owned()));
        let interactive = || Step::Set(Setting::Interactive);
        assert_eq!(steps(&["-zi"]), [unknown("-z"), interactive()]);
        assert_eq!(steps(&["--socket=/x", "-i"]), [unknown("--socket=/x"), interactive()]);
        assert_eq!(steps(&["--"]), [unknown("--")]);
        let missing = |name| Step::Mistake(UsageError::ArgumentMissing(name));
        assert_eq!(steps(&["-S"]), [missing("--socket")]);
        let superfluous = UsageError::Superfluous("x".to_owned());
        assert_eq!(steps(&["x"]), [Step::Mistake(superfluous)]);
    }

    #[test]
    fn a_guard_is_an_integer_of_64_bits() {
        let guard = |text: &str| steps(&["--exit-guard", text]).remove(0);
        assert_eq!(guard("42"), Step::Guard(Some(42)));
        assert_eq!(guard("-9223372036854775808"), Step::Guard(Some(i64::MIN)));
        for off in ["0", "", "-0", "000"] {
            assert_eq!(guard(off), Step::Guard(None), "{off:?}");
        }
        for bad in ["x", "5 ", "+5", "9223372036854775808", "-"] {
            assert_eq!(guard(bad), Step::Mistake(UsageError::Guard(bad.to_owned())));
        }
    }

    #[test]
    fn the_program_of_the_end_has_tabs_between_its_words() {
        let program = |text: &str| steps(&["-E", text]).remove(0);
        let words = |words: &[&str]| {
            Step::ExitExec(words.iter().map(|word| word.as_bytes().to_vec()).collect())
        };
        assert_eq!(
            program("/bin/sh\t-c\techo hello\t"),
            words(&["/bin/sh", "-c", "echo hello", ""])
        );
        assert_eq!(program(""), words(&[]));
        assert_eq!(program(&"x".repeat(255)), words(&[&"x".repeat(255)]));
        let refused = Step::Mistake(UsageError::ExitExecTooLong);
        assert_eq!(program(&"x".repeat(256)), refused);
    }

    #[test]
    fn what_a_warden_gives_is_read_and_not_shown() {
        let given = steps(&["--estate", "3", "--channel", "4", "--safe", "it died"]);
        let expected =
            [Setting::Estate(3), Setting::Channel(4), Setting::Safe("it died".to_owned())];
        assert_eq!(given, expected.map(Step::Set));
        for bad in ["2", "-1", "x", "", "2147483648"] {
            let mistake = UsageError::NotADescriptor("--estate", bad.to_owned());
            assert_eq!(steps(&["--estate", bad]), [Step::Mistake(mistake)]);
        }
        for (name, _) in OF_THE_WARDEN {
            assert!(!HELP.contains(name), "{name}");
        }
        let run_dir = Some(PathBuf::from("/run/x"));
        let whole = Options { estate: Some(3), channel: Some(4), run_dir, ..Options::default() };
        assert!(!whole.has_half_a_warden() && !Options::default().has_half_a_warden());
        assert!(Options { channel: None, ..whole.clone() }.has_half_a_warden());
        assert!(Options { run_dir: None, ..whole }.has_half_a_warden());
    }

    #[test]
    fn help_names_every_option_on_a_line_of_its_own() {
        for (short, name, _) in KNOWN {
            let lines = HELP.lines().filter(|line| line.contains(&format!("{name} ")));
            assert_eq!(lines.count(), 1, "{name}");
            if let Some(short) = short {
                let both = format!("-{}, {name}", char::from(short));
                assert!(HELP.contains(&both), "{both}");
            }
        }
        assert!(HELP.contains("options"));
        assert!(HELP.find("--interactive") < HELP.find("--exit-exec"));
    }
}
