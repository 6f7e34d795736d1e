//! Who the process of a service is: user, group and supplementary groups as numbers.

use keepd_engine::manager::PrepareFailure;
use keepd_model::{Errno, ServiceSpec, SpawnStep};
use keepd_os::process;
use keepd_os::users::{self, User};

use super::failure;

/// Operation not permitted (errno(3)).
const EPERM: Errno = Errno(1);

/// Looks a user up.
pub(super) fn find_user(name: &str) -> Result<User, PrepareFailure> {
    match users::user(name) {
        Ok(Some(user)) => Ok(user),
        Ok(None) => Err(failure(SpawnStep::Uid, None, format!("user \"{name}\" not found"))),
        Err(errno) => {
            let text = format!("cannot look up user \"{name}\": {errno}");
            Err(failure(SpawnStep::Uid, Some(errno), text))
        }
    }
}

/// Looks a group up; `key` is where it stands in the file.
fn find_group(key: &str, step: SpawnStep, name: &str) -> Result<u32, PrepareFailure> {
    match users::group(name) {
        Ok(Some(gid)) => Ok(gid),
        Ok(None) => Err(failure(step, None, format!("{key}: group \"{name}\" not found"))),
        Err(errno) => {
            let text = format!("{key}: cannot look up group \"{name}\": {errno}");
            Err(failure(step, Some(errno), text))
        }
    }
}

/// Who the process is, where that differs from keepd.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) groups: Option<Vec<u32>>,
}

/// Whose rights keepd has.
#[derive(Clone, Copy)]
struct Own {
    uid: u32,
    gid: u32,
}

impl Identity {
    /// Returns the identity that a specification asks for; `user` is the one it names.
    ///
    /// Without a user only what is named differs from keepd: with `group` the group id, with
    /// `extra_groups` the list.
    pub(super) fn of(spec: &ServiceSpec, user: Option<&User>) -> Result<Self, PrepareFailure> {
        let own = Own { uid: process::effective_uid(), gid: process::effective_gid() };
        let name = spec.group.as_deref();
        let group = name.map(|name| find_group("group", SpawnStep::Gid, name)).transpose()?;
        let find_extra = |name: &String| find_group("extra_groups", SpawnStep::Groups, name);
        let extra = spec.extra_groups.as_deref();
        let extra: Option<Vec<u32>> =
            extra.map(|names| names.iter().map(find_extra).collect()).transpose()?;
        match user.filter(|user| user.uid != own.uid) {
            Some(user) => Self::of_user(own, user, group, extra),
            None => Self::of_own(own, name.zip(group), extra),
        }
    }

    fn of_user(
        own: Own,
        user: &User,
        group: Option<u32>,
        extra: Option<Vec<u32>>,
    ) -> Result<Self, PrepareFailure> {
        let name = user.name.clone().unwrap_or_else(|| user.uid.to_string());
        if own.uid != 0 {
            let text = format!("cannot run as user \"{name}\": keepd is not root");
            return Err(failure(SpawnStep::Uid, Some(EPERM), text));
        }
        // A number without an entry has no group; keepd's own group, that of root, must not be it.
        let gid = group.or(user.gid).unwrap_or(user.uid);
        let groups = match extra {
            Some(extra) => extra,
            None => {
                // As a login with this group would get: its memberships, and the group itself.
                let member = User { gid: group.or(user.gid), ..user.clone() };
                users::groups_of(&member).map_err(|errno| {
                    let text = format!("cannot look up the groups of user \"{name}\": {errno}");
                    failure(SpawnStep::Groups, Some(errno), text)
                })?
            }
        };
        Ok(Self { uid: Some(user.uid), gid: Some(gid), groups: Some(groups) })
    }

    fn of_own(
        own: Own,
        group: Option<(&str, u32)>,
        extra: Option<Vec<u32>>,
    ) -> Result<Self, PrepareFailure> {
        let group = group.filter(|(_, gid)| *gid != own.gid);
        if own.uid != 0 {
            if let Some((name, _)) = group {
                let text = format!("group: cannot run as group \"{name}\": keepd is not root");
                return Err(failure(SpawnStep::Gid, Some(EPERM), text));
            }
            if extra.is_some() {
                let text = "extra_groups: cannot set groups: keepd is not root".to_owned();
                return Err(failure(SpawnStep::Groups, Some(EPERM), text));
            }
        }
        Ok(Self { uid: None, gid: group.map(|(_, gid)| gid), groups: extra })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepd_model::{CommandLine, ServiceName};

    const ROOT: Own = Own { uid: 0, gid: 0 };
    const ANN: Own = Own { uid: 1_000, gid: 1_000 };

    fn spec(group: Option<&str>, extra: Option<&[&str]>) -> ServiceSpec {
        let name = ServiceName::new("web").unwrap();
        let mut spec = ServiceSpec::new(name, CommandLine::Words(Vec::new()));
        spec.group = group.map(str::to_owned);
        spec.extra_groups =
            extra.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        spec
    }

    /// A number that is nobody's.
    fn number() -> User {
        users::user("54321").unwrap().unwrap()
    }

    #[test]
    fn ones_own_user_needs_no_rights() {
        let own = process::effective_uid();
        let user = users::user(&own.to_string()).unwrap().unwrap();
        assert_eq!(Identity::of(&spec(None, None), Some(&user)), Ok(Identity::default()));
        assert_eq!(Identity::of(&spec(None, None), None), Ok(Identity::default()));
        let group = process::effective_gid().to_string();
        assert_eq!(Identity::of(&spec(Some(&group), None), None), Ok(Identity::default()));
    }

    #[test]
    fn a_group_wins_over_that_of_the_user() {
        let identity = Identity::of_user(ROOT, &number(), Some(7), None).unwrap();
        let expected = Identity { uid: Some(54_321), gid: Some(7), groups: Some(vec![7]) };
        assert_eq!(identity, expected);
    }

    #[test]
    fn extra_groups_replace_those_of_the_user() {
        let identity = Identity::of_user(ROOT, &number(), None, Some(vec![8, 9])).unwrap();
        let expected = Identity { uid: Some(54_321), gid: Some(54_321), groups: Some(vec![8, 9]) };
        assert_eq!(identity, expected);
        let none = Identity::of_user(ROOT, &number(), None, Some(Vec::new())).unwrap();
        assert_eq!(none.groups, Some(Vec::new()));
    }

    #[test]
    fn a_group_alone_changes_nothing_else() {
        let expected = Identity { gid: Some(7), ..Identity::default() };
        assert_eq!(Identity::of_own(ROOT, Some(("mail", 7)), None), Ok(expected));
    }

    #[test]
    fn groups_need_root() {
        let text = |result: Result<Identity, PrepareFailure>| result.unwrap_err().text;
        assert_eq!(
            text(Identity::of_own(ANN, Some(("mail", 7)), None)),
            "group: cannot run as group \"mail\": keepd is not root"
        );
        assert_eq!(
            text(Identity::of_own(ANN, None, Some(vec![7]))),
            "extra_groups: cannot set groups: keepd is not root"
        );
        assert_eq!(
            text(Identity::of_user(ANN, &number(), None, None)),
            "cannot run as user \"54321\": keepd is not root"
        );
        assert_eq!(Identity::of_own(ANN, Some(("ann", 1_000)), None), Ok(Identity::default()));
    }

    #[test]
    fn groups_that_are_not_there_are_named_with_their_key() {
        let text = |spec: &ServiceSpec| {
            let failure = Identity::of(spec, None).unwrap_err();
            (failure.step, failure.text)
        };
        assert_eq!(
            text(&spec(Some("no-such-group-here"), None)),
            (SpawnStep::Gid, "group: group \"no-such-group-here\" not found".to_owned())
        );
        assert_eq!(
            text(&spec(None, Some(&["0", "no-such-group-here"]))),
            (SpawnStep::Groups, "extra_groups: group \"no-such-group-here\" not found".to_owned())
        );
    }
}
