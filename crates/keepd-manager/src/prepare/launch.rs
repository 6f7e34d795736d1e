//! From a specification to everything that one start of it needs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use keepd_engine::manager::{Launch, Preparation, PrepareFailure, Question};
use keepd_model::protocol::LogTarget;
use keepd_model::{
    CommandLine, Errno, LogMode, Pid, Probe, Reload, ServiceSpec, SpawnStep, StderrMode, Template,
};
use keepd_os::folder::{Folder, Kind, Unreachable};

use super::environment::{ServiceEnvironment, Variables};
use super::identity::{Identity, find_user};
use super::{executable, failure};
use crate::Instance;
use crate::instance::SOCKET_PATH_BYTES_MAX;

/// The shell of `shell = true`.
const SHELL: &str = "/bin/sh";

/// What the file mode mask leaves of this is the mode of a log folder that is made.
const FOLDER_MODE: u32 = 0o777;

/// Not a directory (errno(3)).
const ENOTDIR: Errno = Errno(20);

/// Is a directory (errno(3)).
const EISDIR: Errno = Errno(21);

/// Finds out what this start needs. Blocks as long as the user database and file systems do.
///
/// Only for [`Preparation::Start`] is anything changed: a log folder that is missing is made.
pub(crate) fn prepare(
    spec: &ServiceSpec,
    instance: &Instance,
    base: &Variables,
    preparation: Preparation,
) -> Result<Box<Launch>, PrepareFailure> {
    let user = spec.user.as_deref().map(find_user).transpose()?;
    let mut environment = ServiceEnvironment::build(base, spec, user.as_ref(), instance)?;
    let directory = PathBuf::from(environment.expand("working_dir", &spec.working_dir)?);
    check_directory(&directory)?;
    let arguments = match &spec.command {
        Some(command) => arguments("command", command, &environment)?,
        None => Vec::new(),
    };
    let program = arguments.first().map_or("", String::as_str);
    executable::check(program, environment.get("PATH"), &directory)?;
    let log = log_target(spec, instance, &environment, preparation)?;
    check_notify_socket(spec, instance)?;
    let questions = questions(spec, &environment)?;
    let identity = Identity::of(spec, user.as_ref())?;
    let differences = environment.differences();
    let reload = match preparation {
        Preparation::Reload(pid) => reload(spec, &mut environment, pid)?,
        Preparation::Start | Preparation::Check => None,
    };
    Ok(Box::new(Launch {
        arguments: bytes(arguments),
        environment: differences,
        directory: directory.into_os_string().into_encoded_bytes(),
        uid: identity.uid,
        gid: identity.gid,
        groups: identity.groups,
        log,
        questions,
        reload,
    }))
}

fn check_directory(directory: &Path) -> Result<(), PrepareFailure> {
    let refused = |errno: Option<Errno>, text: String| failure(SpawnStep::Directory, errno, text);
    match fs::metadata(directory) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => {
            let text = format!("working_dir \"{}\" is not a directory", directory.display());
            Err(refused(Some(ENOTDIR), text))
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
    preparation: Preparation,
) -> Result<LogTarget, PrepareFailure> {
    match &spec.log.mode {
        LogMode::File { dir } => {
            let dir = match dir {
                Some(dir) => PathBuf::from(environment.expand("log.dir", dir)?),
                None => instance.service_log_dir(&spec.name),
            };
            let usable = match preparation {
                Preparation::Start => Folder::reach_or_make(&dir, FOLDER_MODE).map(drop),
                Preparation::Check | Preparation::Reload(_) => can_be_folder(&dir),
            };
            usable.map_err(|why| {
                let (errno, why) = why_unreachable(&why);
                let text = format!("cannot make log folder \"{}\": {why}", dir.display());
                failure(SpawnStep::Prepare, errno, text)
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

/// Looks whether a folder is there, or could be made below one that is.
fn can_be_folder(dir: &Path) -> Result<(), Unreachable> {
    for folder in dir.ancestors() {
        match Folder::reach(folder) {
            Err(Unreachable::System(Errno::ENOENT)) => {}
            reached => return reached.map(drop),
        }
    }
    Ok(())
}

/// Returns what the kernel said, and the words for people.
fn why_unreachable(why: &Unreachable) -> (Option<Errno>, String) {
    match why {
        Unreachable::System(errno) => (Some(*errno), errno.to_string()),
        Unreachable::Astray { link, owner } => {
            let link = link.display();
            let text = format!(
                "link \"{link}\" of user {owner} leads to a folder of somebody else; only links of \
                 root and of keepd's own user may do that"
            );
            (None, text)
        }
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

/// Fills the reload command in. It may name the process that it is about.
fn reload(
    spec: &ServiceSpec,
    environment: &mut ServiceEnvironment<'_>,
    pid: Pid,
) -> Result<Option<Vec<Vec<u8>>>, PrepareFailure> {
    match &spec.reload {
        Some(Reload::Command(command)) => {
            environment.set("MAINPID", pid.to_string().as_bytes());
            arguments("reload_command", command, environment).map(|words| Some(bytes(words)))
        }
        Some(Reload::Signal(_)) | None => Ok(None),
    }
}

/// Removes what an earlier run left where these questions look for a file, which would make the
/// next run look ready before it is. A folder is nobody's sign of being ready, and is left alone.
pub(super) fn remove_stale(questions: &[Question]) -> Result<(), PrepareFailure> {
    for question in questions {
        match question {
            Question::File(path) => remove_stale_file(Path::new(path))?,
            Question::Tcp(_)
            | Question::Http(_)
            | Question::Exec(_)
            | Question::Socket(_)
            | Question::Log(_) => {}
        }
    }
    Ok(())
}

fn remove_stale_file(path: &Path) -> Result<(), PrepareFailure> {
    let refused = |errno: Option<Errno>, why: &str| {
        let text = format!("cannot remove the old ready.file \"{}\": {why}", path.display());
        Err(failure(SpawnStep::Prepare, errno, text))
    };
    // What has no name in a folder is a folder: `/`, or what ends with `..`.
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return refused(Some(EISDIR), "it is a folder");
    };
    let folder = match Folder::reach(parent) {
        Ok(folder) => folder,
        // Below a file there is nothing either.
        Err(Unreachable::System(Errno::ENOENT | ENOTDIR)) => return Ok(()),
        Err(why) => {
            let (errno, why) = why_unreachable(&why);
            return refused(errno, &why);
        }
    };
    let removed = match folder.kind_of(name) {
        Ok(Kind::Folder) => return refused(Some(EISDIR), "it is a folder"),
        Ok(Kind::Device) => return refused(None, "it is a device"),
        Ok(Kind::Other) => folder.unlink(name),
        Err(errno) => Err(errno),
    };
    match removed {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => refused(Some(errno), &errno.to_string()),
    }
}

fn bytes(words: Vec<String>) -> Vec<Vec<u8>> {
    words.into_iter().map(String::into_bytes).collect()
}

fn errno_of(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno)
}

fn with_reason(text: &str, error: &io::Error) -> String {
    format!("{text}: {}", reason(error))
}

fn reason(error: &io::Error) -> String {
    errno_of(error).map_or_else(|| error.to_string(), |errno| errno.to_string())
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

    fn start(spec: &ServiceSpec, instance: &Instance) -> Result<Box<Launch>, PrepareFailure> {
        prepare(spec, instance, &base(), Preparation::Start)
    }

    fn refused(spec: &ServiceSpec, scratch: &Scratch) -> (SpawnStep, String) {
        let failure = start(spec, &instance(scratch)).unwrap_err();
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
        let launch = start(&spec, &instance(&scratch)).unwrap();
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
        let launch = start(&spec, &instance(&scratch)).unwrap();
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
        assert!(start(&spec, &instance).is_ok());
        spec.ready.notify = true;
        let failure = start(&spec, &instance).unwrap_err();
        assert!(failure.text.ends_with("has more than 107 bytes"), "{}", failure.text);
    }

    #[test]
    fn a_check_changes_nothing() {
        let scratch = Scratch::new();
        let check =
            |spec: &ServiceSpec| prepare(spec, &instance(&scratch), &base(), Preparation::Check);
        let mut spec = spec(&["sh"]);
        assert!(check(&spec).is_ok());
        assert!(!scratch.path().join("log").exists());
        let file = scratch.write("file", "");
        let below = file.join("log");
        spec.log.mode = LogMode::File { dir: Some(Template::literal(below.to_str().unwrap())) };
        let text = format!("cannot make log folder \"{}\": not a directory", below.display());
        assert_eq!(check(&spec).unwrap_err().text, text);
    }

    #[test]
    fn what_an_earlier_run_left_is_removed() {
        // (behaviour 7.11)
        let scratch = Scratch::new();
        let ask = |path: &Path| remove_stale(&[Question::File(path.to_str().unwrap().to_owned())]);
        let file = scratch.write("ready", "old");
        assert_eq!(ask(&file), Ok(()));
        assert!(!file.exists());
        assert_eq!(ask(&file), Ok(()), "nothing is left of an earlier run");
        let kept = scratch.write("kept", "");
        assert_eq!(ask(&kept.join("ready")), Ok(()), "nothing can be below a file");
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(&kept, &link).unwrap();
        assert_eq!(ask(&link), Ok(()));
        assert!(fs::symlink_metadata(&link).is_err() && kept.exists());
        let socket = scratch.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        assert_eq!(ask(&socket), Ok(()));
        assert!(!socket.exists());
    }

    #[test]
    fn nobody_leads_root_to_what_is_not_his() {
        // (behaviour 7.11, 16.11)
        if keepd_os::process::effective_uid() != 0 {
            keepd_testkit::skip("only root can give a link away");
            return;
        }
        let scratch = Scratch::new();
        let precious = scratch.write("precious/ready", "");
        let home = scratch.path().join("home");
        fs::create_dir(&home).unwrap();
        let link = home.join("run");
        std::os::unix::fs::symlink(precious.parent().unwrap(), &link).unwrap();
        for path in [&home, &link] {
            std::os::unix::fs::lchown(path, Some(54_321), None).unwrap();
        }
        let why = format!(
            "link \"{}\" of user 54321 leads to a folder of somebody else; only links of root and \
             of keepd's own user may do that",
            link.display()
        );
        let path = link.join("ready").to_str().unwrap().to_owned();
        let refused = remove_stale(&[Question::File(path.clone())]).unwrap_err();
        assert_eq!(refused.text, format!("cannot remove the old ready.file \"{path}\": {why}"));
        assert!(precious.exists());

        let mut spec = spec(&["sh"]);
        let logs = link.join("logs");
        spec.log.mode = LogMode::File { dir: Some(Template::literal(logs.to_str().unwrap())) };
        let text = format!("cannot make log folder \"{}\": {why}", logs.display());
        for preparation in [Preparation::Check, Preparation::Start] {
            let refused = prepare(&spec, &instance(&scratch), &base(), preparation).unwrap_err();
            assert_eq!(refused.text, text);
        }
        assert!(!precious.with_file_name("logs").exists());
    }

    #[test]
    fn a_folder_in_its_place_is_said_and_left() {
        // (behaviour 7.11)
        let scratch = Scratch::new();
        let path = scratch.path().to_str().unwrap().to_owned();
        let refused = remove_stale(&[Question::File(path.clone())]).unwrap_err();
        let text = format!("cannot remove the old ready.file \"{path}\": it is a folder");
        assert_eq!((refused.errno, refused.text), (Some(EISDIR), text));
        let device = remove_stale(&[Question::File("/dev/null".to_owned())]).unwrap_err();
        assert_eq!(device.text, "cannot remove the old ready.file \"/dev/null\": it is a device");
    }
}
