//! What an apply would put in force now, and the word that names exactly that.

use crate::accepted::{Accepted, AcceptedSource};
use crate::config::{Candidate, LoadError, OnErrors, blocking, load, reread};

/// A configuration that could be put in force.
pub(crate) struct Proposal {
    /// The configuration.
    pub(crate) candidate: Candidate,
    /// Names the configuration in force and this one: whoever holds the same word means the same
    /// change.
    pub(crate) plan_id: String,
}

/// Reads what an apply would put in force now: the files as they are, or these texts in their
/// place.
pub(crate) async fn propose(
    in_force: &Accepted,
    texts: Option<Vec<AcceptedSource>>,
    on_errors: OnErrors,
) -> Result<Proposal, LoadError> {
    let candidate = match texts {
        None => reread(in_force, on_errors).await?,
        Some(sources) => {
            let accepted = Accepted::new(in_force.project, in_force.roots.clone(), sources);
            blocking(move || load(accepted)).await?
        }
    };
    let plan_id = plan_id(in_force, &candidate.accepted);
    Ok(Proposal { candidate, plan_id })
}

/// Returns 16 hexadecimal digits of the hash of Fowler, Noll and Vo, variant 1a, 64 bits, of two
/// configurations. It protects from accidents, not from enemies: whoever may apply may do anything.
fn plan_id(in_force: &Accepted, new: &Accepted) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for Accepted { sources, kept, quarantined, .. } in [in_force, new] {
        let sources = sources.iter().flat_map(|one| [&one.file, &one.directory, &one.text]);
        let tables = kept.iter().chain(quarantined).flat_map(|(name, text)| [name, text]);
        // Counts and lengths keep texts from running into each other.
        for count in [sources.clone().count(), kept.len(), quarantined.len()] {
            add(&count.to_le_bytes());
        }
        for text in sources.chain(tables) {
            add(&text.len().to_le_bytes());
            add(text.as_bytes());
        }
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(texts: &[(&str, &str)]) -> Accepted {
        let source = |(file, text): &(&str, &str)| AcceptedSource {
            file: (*file).to_owned(),
            path: None,
            directory: "/srv/shop".to_owned(),
            text: (*text).to_owned(),
        };
        Accepted::new(true, Vec::new(), texts.iter().map(source).collect())
    }

    #[test]
    fn an_id_names_both_sides_and_nothing_else() {
        let (old, new) = (accepted(&[("a", "1")]), accepted(&[("a", "2")]));
        let id = plan_id(&old, &new);
        assert_eq!(id.len(), 16);
        assert_eq!(plan_id(&old, &new), id);
        let mut found = old.clone();
        found.sources[0].path = Some("/srv/shop/a".to_owned());
        assert_eq!(plan_id(&found, &new), id, "where it was read does not matter");
        let mut keeping = new.clone();
        keeping.kept.insert("web".to_owned(), "[services.web]".to_owned());
        let others = [
            plan_id(&new, &old),
            plan_id(&old, &old),
            plan_id(&old, &accepted(&[("a", "2"), ("b", "")])),
            plan_id(&old, &accepted(&[("a2", "")])),
            plan_id(&accepted(&[]), &accepted(&[("a", "1"), ("a", "2")])),
            plan_id(&old, &keeping),
            plan_id(&keeping, &new),
        ];
        assert!(!others.contains(&id), "{others:?}");
    }
}
