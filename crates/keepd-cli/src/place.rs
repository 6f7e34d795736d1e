//! Where the instance is that a verb means.

use std::env;
use std::path::{Path, PathBuf};

use keepd_manager::accepted::{Accepted, AcceptedSource, SOURCE_BYTES_MAX};
use keepd_manager::discovery::Root;
use keepd_manager::instance::Surroundings;
use keepd_manager::{Instance, Standing};
use keepd_model::ManagerSpec;

use crate::arguments::{CONFIG_VARIABLE, Globals, SOCKET_VARIABLE};
use crate::configuration;
use crate::error::{CliError, ErrorKind};

/// The name of a project's configuration file.
const PROJECT_FILE: &str = "keepd.toml";

/// The instance that a verb means.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// How messages call it: `for project "/srv/shop"`.
    pub(crate) shown: String,
    /// How it is started.
    pub(crate) start: &'static str,
    /// The socket of its manager.
    pub(crate) socket: PathBuf,
    /// Its paths; unknown if only a socket was named, and nothing beside it says more.
    pub(crate) instance: Option<Instance>,
}

impl Place {
    /// Returns the place of an instance.
    pub(crate) fn of(instance: Instance) -> Self {
        let (shown, start) = match instance.standing() {
            Some(Standing::System) => ("of the system instance".to_owned(), "keepd run --system"),
            Some(Standing::User) => ("of the user instance".to_owned(), "keepd run --user"),
            None => (format!("for project \"{}\"", instance.config_dir.display()), "keepd up -d"),
        };
        Self { shown, start, socket: instance.control_socket(), instance: Some(instance) }
    }
}

/// Returns the standing instance that `--system` or `--user` names.
pub(crate) fn named_standing(globals: &Globals) -> Option<Standing> {
    match (globals.system, globals.user) {
        (true, _) => Some(Standing::System),
        (false, true) => Some(Standing::User),
        (false, false) => None,
    }
}

/// Returns the configuration files that were named: those of `-c`, else of KEEPD_CONFIG.
///
/// # Errors
/// A path cannot be used.
pub(crate) fn named_files(globals: &Globals) -> Result<Option<Vec<Root>>, CliError> {
    if !globals.config.is_empty() {
        let files = globals.config.iter().map(|path| configuration::named(path));
        return files.collect::<Result<_, _>>().map(Some);
    }
    let Some(given) = env::var_os(CONFIG_VARIABLE).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let files = env::split_paths(&given).filter(|path| !path.as_os_str().is_empty());
    files.map(|path| configuration::named(&path)).collect::<Result<_, _>>().map(Some)
}

/// Returns the configuration files that are meant: those of `-c`, else the keepd.toml of
/// `--project`, else those of KEEPD_CONFIG, else the nearest one from the current folder upwards.
///
/// # Errors
/// There is none.
pub(crate) fn config_files(globals: &Globals) -> Result<Vec<Root>, CliError> {
    if let Some(folder) = globals.project.as_ref().filter(|_| globals.config.is_empty()) {
        return Ok(vec![configuration::named(&folder.join(PROJECT_FILE))?]);
    }
    if let Some(files) = named_files(globals)? {
        return Ok(files);
    }
    let current = current_folder()?;
    match nearest_file(&current) {
        Some(path) => Ok(vec![configuration::named(&path)?]),
        None => Err(CliError::new(
            ErrorKind::Usage,
            format!(
                "cannot find a project: there is no {PROJECT_FILE} in \"{}\" or above",
                current.display()
            ),
        )
        .with_hint("change to the project's folder, or use -c FILE")),
    }
}

/// Returns the files of a standing instance: those that were named, else its search path.
///
/// # Errors
/// A path cannot be used, or it is a user without a home.
pub(crate) fn standing_files(globals: &Globals, standing: Standing) -> Result<Vec<Root>, CliError> {
    if let Some(files) = named_files(globals)? {
        return Ok(files);
    }
    let path = standing.search_path(&surroundings());
    if path.is_empty() {
        let message = "cannot find the configuration of the user instance: neither \
                       XDG_CONFIG_HOME nor HOME is set";
        return Err(CliError::new(ErrorKind::Usage, message).with_hint("use -c FILE"));
    }
    Ok(path)
}

/// Returns the files of an instance that does not run, and whether it is a project's.
///
/// # Errors
/// There is none, or a path cannot be used.
pub(crate) fn files_of(globals: &Globals, place: &Place) -> Result<(Vec<Root>, bool), CliError> {
    match place.instance.as_ref().and_then(Instance::standing) {
        Some(standing) => Ok((standing_files(globals, standing)?, false)),
        None => Ok((config_files(globals)?, true)),
    }
}

fn current_folder() -> Result<PathBuf, CliError> {
    env::current_dir().map_err(|error| {
        CliError::because(ErrorKind::System, "cannot find the current folder", &error)
    })
}

/// Returns the nearest configuration file, as a path from the folder: `keepd.toml`,
/// `../keepd.toml`.
fn nearest_file(folder: &Path) -> Option<PathBuf> {
    let mut relative = PathBuf::new();
    for ancestor in folder.ancestors() {
        if ancestor.join(PROJECT_FILE).is_file() {
            return Some(relative.join(PROJECT_FILE));
        }
        relative.push("..");
    }
    None
}

/// Returns what instances depend on besides files.
pub(crate) fn surroundings() -> Surroundings {
    Surroundings::from_environment(keepd_os::process::effective_uid())
}

/// Finds the instance that is meant. It need not run.
///
/// What was named wins: a socket, `--system` or `--user`, a file or folder. Else it is the project
/// of the current folder; else the standing instance that runs.
///
/// # Errors
/// There is no configuration file and no keepd, or no folder for the file.
pub(crate) fn find(globals: &Globals) -> Result<Place, CliError> {
    let socket = globals.socket.clone().or_else(|| {
        env::var_os(SOCKET_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from)
    });
    let place = match (socket, named_standing(globals)) {
        (Some(socket), _) => of_socket(&socket)?,
        (None, Some(standing)) => Place::of(locate_standing(globals, standing)?),
        (None, None) => of_files(globals)?,
    };
    if globals.verbose {
        eprintln!("keepd: using keepd {} at \"{}\"", place.shown, place.socket.display());
    }
    Ok(place)
}

/// Finds a standing instance, by the files that were named, else by what it accepted, else by its
/// search path.
///
/// # Errors
/// A path cannot be used.
pub(crate) fn locate_standing(globals: &Globals, standing: Standing) -> Result<Instance, CliError> {
    let surroundings = surroundings();
    if let Some(files) = named_files(globals)? {
        let manager = manager_spec(&files);
        let instance = standing.locate(config_dir(&files).as_deref(), &manager, &surroundings);
        return Ok(led(instance, &surroundings));
    }
    Ok(installed(standing, &surroundings))
}

/// Returns a standing instance that was started without naming files.
fn installed(standing: Standing, surroundings: &Surroundings) -> Instance {
    let manager = manager_spec(&standing.search_path(surroundings));
    let instance = led(standing.locate(None, &manager, surroundings), surroundings);
    match Accepted::read(&instance.accepted_file()) {
        Ok(accepted) => of_accepted(standing, &accepted, surroundings),
        Err(_) => instance,
    }
}

/// Returns the instance with the run folder that it runs with: what was named when it was started,
/// or what the files said then, may have put it elsewhere, and then its signpost leads there.
fn led(instance: Instance, surroundings: &Surroundings) -> Instance {
    let usual = instance.usual_run_dir(surroundings);
    if instance.control_socket().exists() || !usual.join("lock").exists() {
        return instance;
    }
    let run_dir = std::fs::read_link(&usual).unwrap_or(usual);
    Instance { run_dir, ..instance }
}

/// Returns a standing instance by what it accepted.
fn of_accepted(standing: Standing, accepted: &Accepted, surroundings: &Surroundings) -> Instance {
    let manager = accepted.load().map(|loaded| loaded.plan.manager).unwrap_or_default();
    let named: Vec<Root> = accepted.roots.iter().filter(|root| root.required).cloned().collect();
    standing.locate(config_dir(&named).as_deref(), &manager, surroundings)
}

/// Returns the folder of the first of these files.
pub(crate) fn config_dir(files: &[Root]) -> Option<PathBuf> {
    let path = Path::new(&files.first()?.path);
    let folder = if path.is_dir() { path } else { path.parent()? };
    folder.canonicalize().ok()
}

/// Returns the standing instances that this user may mean, by likelihood.
fn candidates(surroundings: &Surroundings) -> Vec<Instance> {
    let standing: &[Standing] = match surroundings.uid {
        0 => &[Standing::System],
        _ => &[Standing::User, Standing::System],
    };
    standing.iter().map(|standing| installed(*standing, surroundings)).collect()
}

fn of_files(globals: &Globals) -> Result<Place, CliError> {
    let is_named = globals.project.is_some() || named_files(globals)?.is_some();
    let current = current_folder()?;
    let surroundings = surroundings();
    if is_named || nearest_file(&current).is_some() {
        let files = config_files(globals)?;
        let project = instance_of(&files)?;
        if !project.control_socket().exists()
            && let Some(reader) = reader_of(&files, candidates(&surroundings))
        {
            return Ok(Place::of(reader));
        }
        return Ok(Place::of(project));
    }
    let candidates = candidates(&surroundings);
    let sockets: Vec<String> = candidates
        .iter()
        .map(|instance| format!("\"{}\"", instance.control_socket().display()))
        .collect();
    match candidates.into_iter().find(|instance| instance.control_socket().exists()) {
        Some(instance) => Ok(Place::of(instance)),
        None => Err(CliError::new(
            ErrorKind::NoManager,
            format!(
                "cannot find a running keepd: there is no {PROJECT_FILE} in \"{}\" or above, and \
                 nothing listens at {}",
                current.display(),
                sockets.join(" or ")
            ),
        )
        .with_hint(
            "change to the project's folder, or use -c FILE; keepd run starts a keepd \
                    without a project",
        )),
    }
}

/// Returns the running instance that was started with these files, if one was: who stands in
/// /etc/keepd means what runs by the files there.
fn reader_of(files: &[Root], candidates: Vec<Instance>) -> Option<Instance> {
    let first = &files.first()?.path;
    candidates.into_iter().find(|instance| {
        instance.control_socket().exists()
            && Accepted::read(&instance.accepted_file())
                .is_ok_and(|accepted| accepted.roots.iter().any(|root| root.path == *first))
    })
}

/// Finds the instance of these files. What they say about folders counts if they can be read; a
/// file with errors must not hide an instance that runs with what was accepted before.
fn instance_of(files: &[Root]) -> Result<Instance, CliError> {
    let first = files.first().ok_or_else(|| {
        CliError::new(ErrorKind::Usage, "cannot find a project: no configuration file is named")
    })?;
    let manager = manager_spec(files);
    let surroundings = surroundings();
    let instance = Instance::locate(&place_in(first), &manager, &surroundings)?;
    Ok(led(instance, &surroundings))
}

/// Returns a path in the folder of the instance: the file itself, or any one in the folder that was
/// named instead of a file.
pub(crate) fn place_in(first: &Root) -> PathBuf {
    let path = PathBuf::from(&first.path);
    if path.is_dir() { path.join(PROJECT_FILE) } else { path }
}

/// Returns what the files say about keepd itself. Most say nothing about folders, and then there is
/// no need to read all of what they say about services.
fn manager_spec(files: &[Root]) -> ManagerSpec {
    // With ten thousand services, to understand the files takes longer than any answer.
    if files.iter().all(|root| is_silent(Path::new(&root.path))) {
        return ManagerSpec::default();
    }
    let Ok(files) = configuration::read(files.to_vec()) else {
        return ManagerSpec::default();
    };
    if !files.found.sources.iter().any(|source| speaks_of_folders(&source.text)) {
        return ManagerSpec::default();
    }
    let sources = files.found.sources;
    let manager_of = |sources: &[AcceptedSource]| {
        let accepted = Accepted::new(true, Vec::new(), sources.to_vec());
        let accepted = Accepted { salvaged: true, ..accepted };
        accepted.load().map(|loaded| loaded.plan.manager).ok()
    };
    // One file that cannot be used at all does not make the others say less.
    let alone = || {
        let mut each = sources.iter().filter_map(|source| manager_of(std::slice::from_ref(source)));
        each.find(|spec| {
            spec.run_dir.is_some() || spec.state_dir.is_some() || spec.log_dir.is_some()
        })
    };
    manager_of(&sources).or_else(alone).unwrap_or_default()
}

fn speaks_of_folders(text: &str) -> bool {
    ["run_dir", "state_dir", "log_dir"].iter().any(|key| text.contains(key))
}

/// Reports whether a file says nothing about folders, and names no other file that could.
fn is_silent(path: &Path) -> bool {
    let is_short =
        std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() <= SOURCE_BYTES_MAX);
    is_short
        && std::fs::read_to_string(path)
            .is_ok_and(|text| !speaks_of_folders(&text) && !text.contains("include"))
}

/// Finds the instance of a socket, by what was accepted beside it.
fn of_socket(socket: &Path) -> Result<Place, CliError> {
    let socket = std::path::absolute(socket).map_err(|error| {
        let message = format!("cannot use socket \"{}\"", socket.display());
        CliError::because(ErrorKind::Usage, message, &error)
    })?;
    let instance = socket.parent().and_then(of_run_dir);
    let shown = format!("at \"{}\"", socket.display());
    Ok(Place { shown, start: "keepd up -d", socket, instance })
}

/// Returns the instance whose run folder this is.
fn of_run_dir(run_dir: &Path) -> Option<Instance> {
    let accepted = Accepted::read(&run_dir.join("accepted.json")).ok()?;
    let manager = accepted.load().ok()?.plan.manager;
    // Whatever the environment says here: the folder is known.
    let parent = run_dir.parent()?.to_owned();
    let surroundings = Surroundings { keepd_run_dir: Some(parent), ..surroundings() };
    let standing = run_dir.file_name().and_then(|name| Standing::from_word(name.to_str()?));
    match standing {
        Some(standing) => Some(of_accepted(standing, &accepted, &surroundings)),
        None => {
            let first = accepted.roots.first()?;
            let mut instance = Instance::locate(&place_in(first), &manager, &surroundings).ok()?;
            instance.run_dir = run_dir.to_owned();
            Some(instance)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepd_testkit::Scratch;

    #[test]
    fn the_nearest_file_upwards_is_named_from_here() {
        let scratch = Scratch::new();
        let file = scratch.write("a/keepd.toml", "");
        scratch.write("a/b/c/other", "");
        let folder = scratch.path().join("a/b/c");
        assert_eq!(nearest_file(&folder), Some("../../keepd.toml".into()));
        assert_eq!(nearest_file(file.parent().unwrap()), Some("keepd.toml".into()));
    }

    #[test]
    fn a_file_is_silent_that_names_neither_folders_nor_files() {
        let scratch = Scratch::new();
        let file = |text: &str| scratch.write("keepd.toml", text);
        assert!(is_silent(&file("[services.web]\ncommand = \"a\"\n")));
        assert!(!is_silent(&file("[keepd]\nrun_dir = \"/x\"\n")));
        assert!(!is_silent(&file("include = [\"b.toml\"]\n")));
        assert!(!is_silent(scratch.path()) && !is_silent(Path::new("/missing")));
    }

    #[test]
    fn options_name_the_files_in_their_order() {
        let globals = Globals {
            config: vec!["/x/a.toml".into(), "b.toml".into()],
            project: Some("/y".into()),
            ..Globals::default()
        };
        let files = config_files(&globals).unwrap();
        let shown: Vec<&str> = files.iter().map(|file| file.shown.as_str()).collect();
        assert_eq!(shown, ["/x/a.toml", "b.toml"]);
        assert!(files.iter().all(|file| file.path.starts_with('/') && file.required));
    }
}
