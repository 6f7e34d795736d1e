//! What a lost warden and proxy left, from outside: whether somebody can go on with it.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use keepd_model::ServiceName;
use keepd_os::ledger::JournalFile;
use keepd_wire::ledger::journal::{self, Record};
use keepd_wire::ledger::layout::SlotNumber;

use super::ledger::{Ledger, Unreadable};

/// The name of the journal in the run folder.
const JOURNAL: &str = "journal";
/// The name of the ledger in the run folder.
const LEDGER: &str = "ledger";

/// What lives, of that which the ledger of an instance names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survivors {
    /// All of it.
    pub processes: usize,
    /// Without processes of keepd itself.
    pub services: usize,
    /// Services of which the ledger does not say whether they run: their words are damaged.
    pub unreadable: usize,
}

/// Why it is not known what lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SurvivorsError {
    /// There is no ledger, or none of this boot.
    NoLedger,
    /// One of both files is not sound, for this reason.
    Unusable(String),
}

impl fmt::Display for SurvivorsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLedger => formatter.write_str("it kept no ledger"),
            Self::Unusable(why) => formatter.write_str(why),
        }
    }
}

impl std::error::Error for SurvivorsError {}

impl From<Unreadable> for SurvivorsError {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Absent => Self::NoLedger,
            Unreadable::Unusable(why) => Self::Unusable(why),
        }
    }
}

/// Looks which processes of an instance live and can be taken over. Nothing is changed. For who
/// holds the lock of the instance.
///
/// # Errors
///
/// Returns why it is not known: there is no ledger, or one of both files is not sound.
pub fn survivors(run_dir: &Path, instance: &str) -> Result<Survivors, SurvivorsError> {
    let unusable = SurvivorsError::Unusable;
    let mut ledger = Ledger::new(run_dir, instance);
    let living = ledger.living()?;
    let unreadable = ledger.unreadable()?;
    if living.is_empty() && unreadable == 0 {
        // Whatever the journal says, it is about nobody.
        return Ok(Survivors { processes: 0, services: 0, unreadable });
    }
    let path = run_dir.join(JOURNAL);
    let (_, bytes) = JournalFile::open(&path)
        .map_err(|errno| unusable(format!("cannot open \"{}\": {errno}", path.display())))?;
    let replay = ledger
        .with_scope(|scope, answered| journal::read(&bytes, scope, answered))?
        .map_err(|error| unusable(error.to_string()))?;
    let internal: HashSet<SlotNumber> = replay
        .records
        .iter()
        .filter_map(|record| match record {
            Record::Slot(slot, name) => {
                let name = ServiceName::new_internal(name).ok()?;
                name.is_internal().then_some(*slot)
            }
            Record::Command(_) | Record::Event(_) | Record::Freed(_) => None,
        })
        .collect();
    let services = living.iter().filter(|slot| !internal.contains(slot)).count();
    Ok(Survivors { processes: living.len(), services, unreadable })
}

/// Removes ledger and journal of an instance of which nothing runs: whoever comes next begins anew.
/// For who holds the lock.
pub fn forget(run_dir: &Path) {
    // The one that decides goes first; what is not there need not be removed.
    for name in [LEDGER, JOURNAL] {
        let _ = std::fs::remove_file(run_dir.join(name));
    }
}
