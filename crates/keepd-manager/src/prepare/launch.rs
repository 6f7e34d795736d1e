//! From a specification to everything that one start of it needs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use keepd_engine::manager::{Launch, PrepareFailure, Question};
use keepd_model::protocol::LogTarget;
use keepd_model::{
    CommandLine, Errno, LogMode, Probe, Reload, ServiceSpec, SpawnStep, StderrMode, Template,
};
use keepd_os::users::{self, User};

use super::environment::{ServiceEnvironment, Variables};
use super::{executable, failure};
use crate::Instance;
use crate::instance::SOCKET_PATH_BYTES_MAX;

/// The shell of `shell = true`.
const SHELL: &str = "/bin/sh";

/// Finds out what this start needs. Blocks as long as the user database and file systems do.
pub(crate) fn prepare(
    spec: &ServiceSpec,
    instance: &Instance,
    base: &Variables,
) -> Result<Box<Launch>, PrepareFailure> {
    let user = spec.user.as_deref().map(find_user).transpose()?;
    let environment = ServiceEnvironment::build(base, spec, user.as_ref(), instance)?;
    let directory = PathBuf::from(environment.expand("working_dir", &spec.working_dir)?);
    check_directory(&directory)?;
    let arguments = match &spec.command {
        Some(command) => arguments("command", command, &environment)?,
        None => Vec::new(),
    };
    let program = arguments.first().map_or("", String::as_str);
    executable::check(program, environment.get("PATH"), &directory)?;
    let log = log_target(spec, instance, &environment)?;
    check_notify_socket(spec, instance)?;
    let questions = questions(spec, &environment)?;
    let identity = Identity::of(user.as_ref())?;
    Ok(Box::new(Launch {
        arguments: bytes(arguments),
        environment: environment.differences(),
        directory: directory.into_os_string().into_encoded_bytes(),
        uid: identity.uid,
        gid: identity.gid,
        groups: identity.groups,
        log,
        questions,
        reload: reload(spec, &environment)?,
    }))
}

fn find_user(name: &str) -> Result<User, PrepareFailure> {
    match users::user(name) {
        Ok(Some(user)) => Ok(user),
        Ok(None) => Err(failure(SpawnStep::Uid, None, format!("user \"{name}\" not found"))),
        Err(errno) => {
            let text = format!("cannot look up user \"{name}\": {errno}");
            Err(failure(SpawnStep::Uid, Some(errno), text))
        }
    }
}

/// Who the process is, where that differs from keepd.
#[derive(Debug, Default, PartialEq, Eq)]
struct Identity {
    uid: Option<u32>,
    gid: Option<u32>,
    groups: Option<Vec<u32>>,
}

impl Identity {
    fn of(user: Option<&User>) -> Result<Self, PrepareFailure> {
        let own = keepd_os::process::effective_uid();
        let user = match user {
            Some(user) if user.uid != own => user,
            Some(_) | None => return Ok(Self::default()),
        };
        let name = user.name.clone().unwrap_or_else(|| user.uid.to_string());
        if own != 0 {
            let text = format!("cannot run as user \"{name}\": keepd is not root");
            return Err(failure(SpawnStep::Uid, Some(Errno(1)), text));
        }
        let groups = users::groups_of(user).map_err(|errno| {
            let text = format!("cannot look up the groups of user \"{name}\": {errno}");
            failure(SpawnStep::Groups, Some(errno), text)
        })?;
        Ok(Self {
            uid: Some(user.uid),
            // A number without an entry has no group; keepd's own group, that of root, must not be
            // it.
            gid: Some(user.gid.unwrap_or(user.uid)),
            groups: Some(groups),
        })
    }
}

fn check_directory(directory: &Path) -> Result<(), PrepareFailure> {
    let refused = |errno: Option<Errno>, text: String| failure(SpawnStep::Directory, errno, text);
    match fs::metadata(directory) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => {
            let text = format!("working_dir \"{}\" is not a directory", directory.display());
            Err(refused(Some(Errno(20)), text))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = format!("working_dir \"{}\" not found", directory.display());
            Err(refused(Some(Errno::ENOENT), text))
        }
        Err(error) => {
            let text = format!("cannot use working_dir \"{}\"", directory.display());
            Err(refused(errno_of(&error), with_reason(&text, &error)))
        }
    }
}

/// Returns the words of a command, each filled in on its own.
fn arguments(
    key: &str,
    command: &CommandLine,
    environment: &ServiceEnvironment<'_>,
) -> Result<Vec<String>, PrepareFailure> {
    match command {
        CommandLine::Words(words) => {
            words.iter().map(|word| environment.expand(key, word)).collect()
        }
        CommandLine::Shell(line) => {
            // The shell substitutes; keepd must not do it before.
            let line = environment.expand(key, &Template::literal(line))?;
            Ok(vec![SHELL.to_owned(), "-c".to_owned(), line])
        }
    }
}

fn log_target(
    spec: &ServiceSpec,
    instance: &Instance,
    environment: &ServiceEnvironment<'_>,
) -> Result<LogTarget, PrepareFailure> {
    match &spec.log.mode {
        LogMode::File { dir } => {
            let dir = match dir {
                Some(dir) => PathBuf::from(environment.expand("log.dir", dir)?),
                None => instance.service_log_dir(&spec.name),
            };
            fs::create_dir_all(&dir).map_err(|error| {
                let text = format!("cannot make log folder \"{}\"", dir.display());
                failure(SpawnStep::Prepare, errno_of(&error), with_reason(&text, &error))
            })?;
            Ok(LogTarget::File {
                dir: dir.into_os_string().into_encoded_bytes(),
                merge: match spec.log.stderr {
                    StderrMode::Separate => false,
                    StderrMode::Merge => true,
                },
            })
        }
        LogMode::Append { file } => {
            let file = PathBuf::from(environment.expand("log.file", file)?);
            let parent = file.parent().unwrap_or(Path::new("/"));
            if !parent.is_dir() {
                let text = format!("folder \"{}\" of log.file not found", parent.display());
                return Err(failure(SpawnStep::Prepare, Some(Errno::ENOENT), text));
            }
            Ok(LogTarget::Append { file: file.into_os_string().into_encoded_bytes() })
        }
        LogMode::Null => Ok(LogTarget::Null),
        LogMode::Inherit => Ok(LogTarget::Inherit),
    }
}

fn check_notify_socket(spec: &ServiceSpec, instance: &Instance) -> Result<(), PrepareFailure> {
    let path = instance.notify_socket(&spec.name);
    if !spec.ready.notify || path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return Ok(());
    }
    let text = format!(
        "path \"{}\" of the notify socket has more than {SOCKET_PATH_BYTES_MAX} bytes",
        path.display()
    );
    Err(failure(SpawnStep::Prepare, Some(Errno(36)), text))
}

fn questions(
    spec: &ServiceSpec,
    environment: &ServiceEnvironment<'_>,
) -> Result<Vec<Question>, PrepareFailure> {
    let ask = |probe: &Probe| match probe {
        Probe::Tcp(probe) => environment.expand("ready.port", &probe.address).map(Question::Tcp),
        Probe::Http(probe) => environment.expand("ready.http", &probe.url).map(Question::Http),
        Probe::Exec(command) => {
            arguments("ready.exec", command, environment).map(|words| Question::Exec(bytes(words)))
        }
        Probe::Socket(path) => environment.expand("ready.socket", path).map(Question::Socket),
        Probe::File(path) => environment.expand("ready.file", path).map(Question::File),
        Probe::Log(pattern) => Ok(Question::Log(pattern.clone())),
    };
    spec.ready.probes.iter().map(ask).collect()
}

fn reload(
    spec: &ServiceSpec,
    environment: &ServiceEnvironment<'_>,
) -> Result<Option<Vec<Vec<u8>>>, PrepareFailure> {
    match &spec.reload {
        Some(Reload::Command(command)) => {
            arguments("reload_command", command, environment).map(|words| Some(bytes(words)))
        }
        Some(Reload::Signal(_)) | None => Ok(None),
    }
}

fn bytes(words: Vec<String>) -> Vec<Vec<u8>> {
    words.into_iter().map(String::into_bytes).collect()
}

fn errno_of(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno)
}

fn with_reason(text: &str, error: &io::Error) -> String {
    match errno_of(error) {
        Some(errno) => format!("{text}: {errno}"),
        None => format!("{text}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepd_model::protocol::{Environment, EnvironmentChange};
    use keepd_model::{HttpProbe, ServiceName, TcpProbe};
    use keepd_testkit::Scratch;

    fn template(text: &str) -> Template {
        Template::parse(text).unwrap()
    }

    fn spec(words: &[&str]) -> ServiceSpec {
        let words = words.iter().map(|word| template(word)).collect();
        ServiceSpec::new(ServiceName::new("web").unwrap(), CommandLine::Words(words))
    }

    fn instance(scratch: &Scratch) -> Instance {
        Instance {
            name: "shop-1".into(),
            run_dir: scratch.path().join("run"),
            state_dir: scratch.path().join("state"),
            log_dir: scratch.path().join("log"),
            config_dir: scratch.path().to_owned(),
        }
    }

    fn base() -> Variables {
        Variables::from([(b"PATH".to_vec(), b"/usr/bin:/bin".to_vec())])
    }

    fn refused(spec: &ServiceSpec, scratch: &Scratch) -> (SpawnStep, String) {
        let failure = prepare(spec, &instance(scratch), &base()).unwrap_err();
        (failure.step, failure.text)
    }

    #[test]
    fn everything_is_filled_in() {
        let scratch = Scratch::new();
        let mut spec = spec(&["sh", "-c", "echo ${PORT} $$X"]);
        spec.env.insert("PORT".into(), Some(template("80")));
        spec.working_dir = template("${keepd.config_dir}");
        spec.log.stderr = StderrMode::Merge;
        spec.ready.probes = vec![
            Probe::Tcp(TcpProbe { address: template("127.0.0.1:${PORT}") }),
            Probe::Http(HttpProbe { url: template("http://localhost:${PORT}/ok") }),
            Probe::Exec(CommandLine::Shell("test ${PORT}".into())),
        ];
        let launch = prepare(&spec, &instance(&scratch), &base()).unwrap();
        let log_dir = scratch.path().join("log/web");
        let words = |words: &[&str]| bytes(words.iter().map(|word| word.to_string()).collect());
        let expected = Launch {
            arguments: words(&["sh", "-c", "echo 80 $X"]),
            environment: Environment {
                clear: false,
                changes: vec![EnvironmentChange::Set(b"PORT".to_vec(), b"80".to_vec())],
            },
            directory: scratch.path().as_os_str().as_encoded_bytes().to_vec(),
            uid: None,
            gid: None,
            groups: None,
            log: LogTarget::File {
                dir: log_dir.as_os_str().as_encoded_bytes().to_vec(),
                merge: true,
            },
            questions: vec![
                Question::Tcp("127.0.0.1:80".into()),
                Question::Http("http://localhost:80/ok".into()),
                Question::Exec(words(&["/bin/sh", "-c", "test ${PORT}"])),
            ],
            reload: None,
        };
        assert_eq!(*launch, expected);
        assert!(log_dir.is_dir());
    }

    #[test]
    fn a_shell_line_is_left_to_the_shell() {
        let scratch = Scratch::new();
        let mut spec = spec(&[]);
        spec.command = Some(CommandLine::Shell("echo ${HOME:-x} $$".into()));
        let launch = prepare(&spec, &instance(&scratch), &base()).unwrap();
        assert_eq!(launch.arguments[2], b"echo ${HOME:-x} $$");
    }

    #[test]
    fn what_is_missing_fails_at_its_step() {
        let scratch = Scratch::new();
        let mut user = spec(&["sh"]);
        user.user = Some("no-such-user-here".into());
        assert_eq!(
            refused(&user, &scratch),
            (SpawnStep::Uid, "user \"no-such-user-here\" not found".into())
        );
        let mut dir = spec(&["sh"]);
        dir.working_dir = template("/nonexistent");
        assert_eq!(
            refused(&dir, &scratch),
            (SpawnStep::Directory, "working_dir \"/nonexistent\" not found".into())
        );
        let file = scratch.write("file", "");
        dir.working_dir = Template::literal(file.to_str().unwrap());
        assert_eq!(
            refused(&dir, &scratch),
            (
                SpawnStep::Directory,
                format!("working_dir \"{}\" is not a directory", file.display())
            )
        );
        assert_eq!(
            refused(&spec(&["webd"]), &scratch),
            (SpawnStep::Exec, "executable \"webd\" not found in PATH (/usr/bin:/bin)".into())
        );
        assert_eq!(
            refused(&spec(&["sh", "${GONE:?set it}"]), &scratch),
            (SpawnStep::Prepare, "command: variable \"GONE\" is not set: set it".into())
        );
    }

    #[test]
    fn log_places_that_cannot_be_used_are_refused() {
        let scratch = Scratch::new();
        let file = scratch.write("file", "");
        let mut spec = spec(&["sh"]);
        let below = file.join("log");
        spec.log.mode = LogMode::File { dir: Some(Template::literal(below.to_str().unwrap())) };
        let text = format!("cannot make log folder \"{}\": not a directory", below.display());
        assert_eq!(refused(&spec, &scratch), (SpawnStep::Prepare, text));
        spec.log.mode = LogMode::Append { file: Template::literal("/nonexistent/web.log") };
        let text = "folder \"/nonexistent\" of log.file not found".to_owned();
        assert_eq!(refused(&spec, &scratch), (SpawnStep::Prepare, text));
    }

    #[test]
    fn a_notify_socket_needs_a_short_path() {
        let scratch = Scratch::new();
        let mut instance = instance(&scratch);
        instance.run_dir = scratch.path().join("x".repeat(100));
        let mut spec = spec(&["sh"]);
        assert!(prepare(&spec, &instance, &base()).is_ok());
        spec.ready.notify = true;
        let failure = prepare(&spec, &instance, &base()).unwrap_err();
        assert!(failure.text.ends_with("has more than 107 bytes"), "{}", failure.text);
    }

    #[test]
    fn ones_own_user_needs_no_rights() {
        let own = keepd_os::process::effective_uid();
        let user = users::user(&own.to_string()).unwrap().unwrap();
        assert_eq!(Identity::of(Some(&user)), Ok(Identity::default()));
        assert_eq!(Identity::of(None), Ok(Identity::default()));
    }
}
