//! The instances that belong to no project: where they look for their files, and where they live.

use std::path::{Path, PathBuf};

use keepd_model::ManagerSpec;

use crate::discovery::Root;
use crate::instance::{Instance, Surroundings};

/// An instance that belongs to no project (`keepd run` without a command).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The one of the machine, or of the container.
    System,
    /// The one of a user.
    User,
}

impl Standing {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::System, Self::User];

    /// Returns the name of the instance, which is also that of its run folder. No project has it:
    /// the names of projects end in a number.
    pub const fn word(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
        }
    }

    /// Returns the standing instance of this name, if it is one.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|standing| standing.word() == word)
    }

    /// Returns where the files of the instance are looked for if none is named, in the order of
    /// reading. It is empty only for a user without a home.
    pub fn search_path(self, surroundings: &Surroundings) -> Vec<Root> {
        let root = |path: PathBuf| {
            let path = path.to_str()?.to_owned();
            Some(Root { shown: path.clone(), path, required: false })
        };
        let paths = match self {
            Self::System => ["/usr/lib/keepd/conf.d", "/etc/keepd/keepd.toml", "/etc/keepd/conf.d"]
                .into_iter()
                .chain(["/run/keepd/conf.d"])
                .map(PathBuf::from)
                .collect(),
            Self::User => match surroundings.user_config_dir() {
                Some(folder) => vec![folder.join("keepd.toml"), folder.join("conf.d")],
                None => Vec::new(),
            },
        };
        paths.into_iter().filter_map(root).collect()
    }

    /// Returns the folder of the files that are looked for.
    fn config_dir(self, surroundings: &Surroundings) -> PathBuf {
        match self {
            Self::System => PathBuf::from("/etc/keepd"),
            Self::User => surroundings.user_config_dir().unwrap_or_else(|| PathBuf::from("/")),
        }
    }

    /// Returns the instance. Nothing is made. `config_dir` is the folder of the first file if the
    /// files were named.
    ///
    /// Folders that could not be used at its start are in its run folder, and are found there.
    pub fn locate(
        self,
        config_dir: Option<&Path>,
        manager: &ManagerSpec,
        surroundings: &Surroundings,
    ) -> Instance {
        let run_dir = surroundings.standing_run_parent(self, manager).join(self.word());
        let folders = Folders::of(self, manager, surroundings, &run_dir);
        let present = |name: &str, other: PathBuf| {
            let moved = run_dir.join(name);
            if moved.is_dir() { moved } else { other }
        };
        Instance {
            name: self.word().to_owned(),
            state_dir: present(Folders::STATE, folders.state_dir),
            log_dir: present(Folders::LOG, folders.log_dir),
            config_dir: config_dir.map_or_else(|| self.config_dir(surroundings), Path::to_path_buf),
            run_dir,
        }
    }
}

/// Where state and logs of a standing instance belong.
pub(crate) struct Folders {
    pub(crate) state_dir: PathBuf,
    pub(crate) log_dir: PathBuf,
}

impl Folders {
    /// The name of the state folder in a run folder.
    pub(crate) const STATE: &str = "state";
    /// The name of the log folder in a run folder.
    pub(crate) const LOG: &str = "log";

    pub(crate) fn of(
        standing: Standing,
        manager: &ManagerSpec,
        surroundings: &Surroundings,
        run_dir: &Path,
    ) -> Self {
        let (state_dir, log_dir) = match standing {
            Standing::System => ("/var/lib/keepd".into(), "/var/log/keepd".into()),
            Standing::User => match surroundings.user_state_dir() {
                Some(folder) => (folder.clone(), folder.join("log")),
                None => (run_dir.join(Self::STATE), run_dir.join(Self::LOG)),
            },
        };
        Self {
            state_dir: manager.state_dir.as_ref().map_or(state_dir, PathBuf::from),
            log_dir: manager.log_dir.as_ref().map_or(log_dir, PathBuf::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(roots: &[Root]) -> Vec<&str> {
        assert!(roots.iter().all(|root| !root.required && root.shown == root.path));
        roots.iter().map(|root| root.path.as_str()).collect()
    }

    #[test]
    fn the_system_reads_what_was_shipped_then_what_was_set_then_what_is_for_now() {
        assert_eq!(
            paths(&Standing::System.search_path(&Surroundings::default())),
            [
                "/usr/lib/keepd/conf.d",
                "/etc/keepd/keepd.toml",
                "/etc/keepd/conf.d",
                "/run/keepd/conf.d",
            ]
        );
    }

    #[test]
    fn a_user_has_the_folders_of_the_xdg_specification() {
        let mut place = Surroundings { uid: 7, ..Surroundings::default() };
        assert!(Standing::User.search_path(&place).is_empty());
        place.home = Some("/home/u".into());
        let found = Standing::User.search_path(&place);
        let expected = ["/home/u/.config/keepd/keepd.toml", "/home/u/.config/keepd/conf.d"];
        assert_eq!(paths(&found), expected);
        place.xdg_config_home = Some("/c".into());
        let found = Standing::User.search_path(&place);
        assert_eq!(paths(&found), ["/c/keepd/keepd.toml", "/c/keepd/conf.d"]);
    }

    #[test]
    fn the_folders_are_those_of_the_documentation() {
        let manager = ManagerSpec::default();
        let mut place = Surroundings { uid: 7, ..Surroundings::default() };
        let system = Standing::System.locate(None, &manager, &place);
        assert_eq!(system.run_dir, Path::new("/run/keepd/system"));
        assert_eq!(system.state_dir, Path::new("/var/lib/keepd"));
        assert_eq!(system.log_dir, Path::new("/var/log/keepd"));
        assert_eq!(system.config_dir, Path::new("/etc/keepd"));
        let user = Standing::User.locate(None, &manager, &place);
        assert_eq!(user.run_dir, Path::new("/tmp/keepd-7/user"));
        assert_eq!(user.state_dir, Path::new("/tmp/keepd-7/user/state"));
        place.xdg_runtime_dir = Some("/run/user/7".into());
        place.xdg_state_home = Some("/s".into());
        let user = Standing::User.locate(None, &manager, &place);
        assert_eq!(user.run_dir, Path::new("/run/user/7/keepd/user"));
        assert_eq!(user.log_dir, Path::new("/s/keepd/log"));
        let file = ManagerSpec { log_dir: Some("/l".into()), ..ManagerSpec::default() };
        place.keepd_run_dir = Some("/k".into());
        let system = Standing::System.locate(Some(Path::new("/srv")), &file, &place);
        assert_eq!(system.run_dir, Path::new("/k/system"));
        assert_eq!((system.log_dir, system.config_dir), ("/l".into(), "/srv".into()));
    }
}
