//! What an apply would put in force now, and the word that names exactly that.

use crate::accepted::{Accepted, AcceptedSource};
use crate::config::{Candidate, LoadError, blocking, load, reread};

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
) -> Result<Proposal, LoadError> {
    let candidate = match texts {
        None => reread(in_force).await?,
        Some(sources) => {
            let accepted = Accepted::new(in_force.project, in_force.roots.clone(), sources);
            blocking(move || load(accepted)).await?
        }
    };
    let plan_id = plan_id(&in_force.sources, &candidate.accepted.sources);
    Ok(Proposal { candidate, plan_id })
}

/// Returns 16 hexadecimal digits of the hash of Fowler, Noll and Vo, variant 1a, 64 bits, of two
/// configurations. It protects from accidents, not from enemies: whoever may apply may do anything.
fn plan_id(in_force: &[AcceptedSource], new: &[AcceptedSource]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for sources in [in_force, new] {
        // Counts and lengths keep texts from running into each other.
        add(&sources.len().to_le_bytes());
        for text in sources.iter().flat_map(|one| [&one.file, &one.directory, &one.text]) {
            add(&text.len().to_le_bytes());
            add(text.as_bytes());
        }
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(texts: &[(&str, &str)]) -> Vec<AcceptedSource> {
        let source = |(file, text): &(&str, &str)| AcceptedSource {
            file: (*file).to_owned(),
            path: None,
            directory: "/srv/shop".to_owned(),
            text: (*text).to_owned(),
        };
        texts.iter().map(source).collect()
    }

    #[test]
    fn an_id_names_both_sides_and_nothing_else() {
        let (old, new) = (sources(&[("a", "1")]), sources(&[("a", "2")]));
        let id = plan_id(&old, &new);
        assert_eq!(id.len(), 16);
        assert_eq!(plan_id(&old, &new), id);
        let mut found = old.clone();
        found[0].path = Some("/srv/shop/a".to_owned());
        assert_eq!(plan_id(&found, &new), id, "where it was read does not matter");
        let others = [
            plan_id(&new, &old),
            plan_id(&old, &old),
            plan_id(&old, &sources(&[("a", "2"), ("b", "")])),
            plan_id(&old, &sources(&[("a2", "")])),
            plan_id(&[], &sources(&[("a", "1"), ("a", "2")])),
        ];
        assert!(!others.contains(&id), "{others:?}");
    }
}
