//! Where the instance is that a verb means.

use std::env;
use std::path::{Path, PathBuf};

use keepd_manager::Instance;
use keepd_manager::accepted::Accepted;
use keepd_manager::instance::Surroundings;
use keepd_model::ManagerSpec;

use crate::arguments::{CONFIG_VARIABLE, Globals, SOCKET_VARIABLE};
use crate::configuration::{self, ConfigFile};
use crate::error::{CliError, ErrorKind};

/// The name of a project's configuration file.
const PROJECT_FILE: &str = "keepd.toml";

/// The instance that a verb means.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// How messages call it: `for project "/srv/shop"`.
    pub(crate) shown: String,
    /// The socket of its manager.
    pub(crate) socket: PathBuf,
    /// Its paths; unknown if only a socket was named, and nothing beside it says more.
    pub(crate) instance: Option<Instance>,
}

/// Returns the configuration files that are meant: those of `-c`, else of KEEPD_CONFIG, else the
/// keepd.toml of `--project`, else the nearest one from the current folder upwards.
///
/// # Errors
/// There is none.
pub(crate) fn config_files(globals: &Globals) -> Result<Vec<ConfigFile>, CliError> {
    if !globals.config.is_empty() {
        return globals.config.iter().map(|path| ConfigFile::new(path)).collect();
    }
    if let Some(folder) = &globals.project {
        return Ok(vec![ConfigFile::new(&folder.join(PROJECT_FILE))?]);
    }
    let given = env::var_os(CONFIG_VARIABLE).filter(|value| !value.is_empty());
    if let Some(given) = given {
        let files = env::split_paths(&given).filter(|path| !path.as_os_str().is_empty());
        return files.map(|path| ConfigFile::new(&path)).collect();
    }
    let current = env::current_dir().map_err(|error| {
        CliError::because(ErrorKind::System, "cannot find the current folder", &error)
    })?;
    match nearest_file(&current) {
        Some(path) => Ok(vec![ConfigFile::new(&path)?]),
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
/// # Errors
/// There is no configuration file, or no folder for it.
pub(crate) fn find(globals: &Globals) -> Result<Place, CliError> {
    let socket = globals.socket.clone().or_else(|| {
        env::var_os(SOCKET_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from)
    });
    let place = match socket {
        Some(socket) => of_socket(&socket)?,
        None => {
            let files = config_files(globals)?;
            let instance = instance_of(&files)?;
            Place {
                shown: format!("for project \"{}\"", instance.config_dir.display()),
                socket: instance.control_socket(),
                instance: Some(instance),
            }
        }
    };
    if globals.verbose {
        eprintln!("keepd: using \"{}\"", place.socket.display());
    }
    Ok(place)
}

/// Finds the instance of these files. What they say about folders counts if they can be read; a
/// file with errors must not hide an instance that runs with what was accepted before.
fn instance_of(files: &[ConfigFile]) -> Result<Instance, CliError> {
    let first = files.first().ok_or_else(|| {
        CliError::new(ErrorKind::Usage, "cannot find a project: no configuration file is named")
    })?;
    let manager = manager_spec(files);
    Ok(Instance::locate(&first.path, &manager, &surroundings())?)
}

/// Returns what the files say about keepd itself. Most say nothing about folders, and then there is
/// no need to read all of what they say about services.
fn manager_spec(files: &[ConfigFile]) -> ManagerSpec {
    let Ok(sources) = configuration::read(files) else {
        return ManagerSpec::default();
    };
    let speaks_of_folders = sources.iter().any(|source| {
        ["run_dir", "state_dir", "log_dir"].iter().any(|key| source.text.contains(key))
    });
    if !speaks_of_folders {
        return ManagerSpec::default();
    }
    configuration::load(&sources, true).map(|loaded| loaded.plan.manager).unwrap_or_default()
}

/// Finds the instance of a socket, by what was accepted beside it.
fn of_socket(socket: &Path) -> Result<Place, CliError> {
    let socket = std::path::absolute(socket).map_err(|error| {
        let message = format!("cannot use socket \"{}\"", socket.display());
        CliError::because(ErrorKind::Usage, message, &error)
    })?;
    let run_dir = socket.parent().map(Path::to_owned);
    let instance = run_dir.and_then(|run_dir| {
        let accepted = Accepted::read(&run_dir.join("accepted.json")).ok()?;
        let file = accepted.sources.first()?.path.clone()?;
        let manager: ManagerSpec =
            configuration::load(&accepted.sources, accepted.project).ok()?.plan.manager;
        let mut instance = Instance::locate(Path::new(&file), &manager, &surroundings()).ok()?;
        instance.run_dir = run_dir;
        Some(instance)
    });
    Ok(Place { shown: format!("at \"{}\"", socket.display()), socket, instance })
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
    fn options_name_the_files_in_their_order() {
        let globals = Globals {
            config: vec!["/x/a.toml".into(), "b.toml".into()],
            project: Some("/y".into()),
            ..Globals::default()
        };
        let files = config_files(&globals).unwrap();
        let shown: Vec<&str> = files.iter().map(|file| file.shown.as_str()).collect();
        assert_eq!(shown, ["/x/a.toml", "b.toml"]);
        assert!(files.iter().all(|file| file.path.is_absolute()));
    }
}
