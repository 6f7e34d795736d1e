//! The link by which an instance is found whose run folder is not where everybody looks.
//!
//! Only the files say that `keepd.run_dir` is set, and a verb need not know the files: those of a
//! standing instance may have been named when it was started, those of a project may say something
//! else by now. So the usual place of the run folder holds a link to the real one as long as the
//! instance lives. Every path below the usual place works through it.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use keepd_os::file;

use crate::instance::{Instance, InstanceError, Surroundings, create_run_parent};

/// What a signpost found at the usual place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signpost {
    /// The run folder is where everybody looks.
    NotNeeded,
    /// It is put up.
    Put,
    /// The same instance runs with this other run folder.
    Runs(PathBuf),
}

impl Instance {
    /// Puts the signpost up. Only for who holds the lock of the run folder.
    ///
    /// # Errors
    /// The folder for it is not this user's, or something is in the way.
    pub fn put_signpost(&self, surroundings: &Surroundings) -> Result<Signpost, InstanceError> {
        let usual = self.usual_run_dir(surroundings);
        if usual == self.run_dir {
            return Ok(Signpost::NotNeeded);
        }
        create_run_parent(&usual, surroundings)?;
        let refused = |error| {
            let (usual, real) = (usual.display(), self.run_dir.display());
            InstanceError::new(format!("cannot make link \"{usual}\" to \"{real}\""), error)
        };
        let failure = match symlink(&self.run_dir, &usual) {
            Ok(()) => return Ok(Signpost::Put),
            Err(error) => error,
        };
        match fs::read_link(&usual) {
            Ok(target) if target == self.run_dir => return Ok(Signpost::Put),
            Ok(target) if runs(&target) => return Ok(Signpost::Runs(target)),
            // Of an instance that was lost.
            Ok(_) => fs::remove_file(&usual).map_err(refused)?,
            Err(_) if runs(&usual) => return Ok(Signpost::Runs(usual)),
            Err(_) => return Err(refused(failure)),
        }
        symlink(&self.run_dir, &usual).map_err(refused)?;
        Ok(Signpost::Put)
    }

    /// Removes the signpost if it is ours.
    pub fn remove_signpost(&self, surroundings: &Surroundings) {
        let usual = self.usual_run_dir(surroundings);
        if fs::read_link(&usual).is_ok_and(|target| target == self.run_dir) {
            // What is left leads nowhere, and the next start replaces it.
            let _ = fs::remove_file(&usual);
        }
    }

    /// Makes room for a run folder at the usual place, where a signpost of a start with another run
    /// folder may stand. Returns where it leads if the instance runs there.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn clear_signpost(&self) -> Result<Option<PathBuf>, InstanceError> {
        let Ok(target) = fs::read_link(&self.run_dir) else {
            return Ok(None);
        };
        if runs(&target) {
            return Ok(Some(target));
        }
        fs::remove_file(&self.run_dir).map(|()| None).map_err(|error: io::Error| {
            let text = format!("cannot remove link \"{}\"", self.run_dir.display());
            InstanceError::new(text, error)
        })
    }
}

/// Reports whether an instance runs in this run folder: its top process holds the lock, or its
/// proxy listens.
fn runs(run_dir: &Path) -> bool {
    let lock = fs::OpenOptions::new().write(true).open(run_dir.join("lock"));
    lock.is_ok_and(|lock| matches!(file::lock_exclusive(&lock), Ok(false)))
        || UnixStream::connect(run_dir.join("proxy.sock")).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    use keepd_model::ManagerSpec;
    use keepd_testkit::Scratch;

    use crate::Standing;

    /// A system instance whose files put its run folder elsewhere, and what it depends on.
    fn elsewhere(scratch: &Scratch, name: &str) -> (Instance, Surroundings) {
        let surroundings = Surroundings {
            uid: fs::metadata(scratch.path()).unwrap().uid(),
            keepd_run_dir: Some(scratch.path().join("usual")),
            ..Surroundings::default()
        };
        let mut instance = Standing::System.locate(None, &ManagerSpec::default(), &surroundings);
        instance.run_dir = scratch.path().join(name).join("system");
        fs::create_dir_all(&instance.run_dir).unwrap();
        (instance, surroundings)
    }

    /// Takes the lock of a run folder.
    fn lock(instance: &Instance) -> fs::File {
        let lock = fs::File::create(instance.lock_file()).unwrap();
        assert!(file::lock_exclusive(&lock).unwrap());
        lock
    }

    #[test]
    fn it_leads_to_the_run_folder_and_goes_with_it() {
        let scratch = Scratch::new();
        let (instance, surroundings) = elsewhere(&scratch, "a");
        let usual = instance.usual_run_dir(&surroundings);
        assert_eq!(usual, scratch.path().join("usual/system"));
        for _ in 0..2 {
            assert_eq!(instance.put_signpost(&surroundings).unwrap(), Signpost::Put);
        }
        assert_eq!(fs::read_link(&usual).unwrap(), instance.run_dir);
        let (other, _) = elsewhere(&scratch, "b");
        other.remove_signpost(&surroundings);
        assert!(usual.is_dir(), "only its owner removes it");
        instance.remove_signpost(&surroundings);
        assert!(fs::symlink_metadata(&usual).is_err());
        let at_home = Instance { run_dir: usual.clone(), ..instance };
        assert_eq!(at_home.put_signpost(&surroundings).unwrap(), Signpost::NotNeeded);
        assert!(fs::symlink_metadata(&usual).is_err());
    }

    #[test]
    fn that_of_a_lost_instance_is_replaced_and_that_of_a_running_one_is_not() {
        let scratch = Scratch::new();
        let (first, surroundings) = elsewhere(&scratch, "a");
        let (second, _) = elsewhere(&scratch, "b");
        let usual = first.usual_run_dir(&surroundings);
        let at_home = Instance { run_dir: usual.clone(), ..first.clone() };
        let held = lock(&first);
        first.put_signpost(&surroundings).unwrap();
        let found = second.put_signpost(&surroundings).unwrap();
        assert_eq!(found, Signpost::Runs(first.run_dir.clone()));
        assert_eq!(at_home.clear_signpost().unwrap(), Some(first.run_dir));
        drop(held);
        assert_eq!(second.put_signpost(&surroundings).unwrap(), Signpost::Put);
        assert_eq!(fs::read_link(&usual).unwrap(), second.run_dir);
        assert_eq!(at_home.clear_signpost().unwrap(), None);
        assert!(fs::symlink_metadata(&usual).is_err());
        assert_eq!(at_home.clear_signpost().unwrap(), None);
    }

    #[test]
    fn a_run_folder_at_the_usual_place_is_never_touched() {
        let scratch = Scratch::new();
        let (instance, surroundings) = elsewhere(&scratch, "a");
        let (at_home, _) = elsewhere(&scratch, "usual");
        let error = instance.put_signpost(&surroundings).unwrap_err();
        assert!(error.to_string().starts_with("cannot make link "), "{error}");
        let _held = lock(&at_home);
        let found = instance.put_signpost(&surroundings).unwrap();
        assert_eq!(found, Signpost::Runs(at_home.run_dir.clone()));
        instance.remove_signpost(&surroundings);
        assert!(at_home.lock_file().exists());
    }
}
