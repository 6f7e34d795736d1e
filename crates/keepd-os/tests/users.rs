//! Users and groups by name and by number.

use std::path::Path;

use keepd_os::users;

#[test]
fn root_is_known_by_name_and_number() {
    let root = users::user("root").unwrap().unwrap();
    assert_eq!((root.uid, root.gid), (0, Some(0)));
    assert_eq!(root.home.as_deref(), Some(Path::new("/root")));
    assert_eq!(users::user("0").unwrap().unwrap(), root);
    assert!(users::groups_of(&root).unwrap().contains(&0));
    assert_eq!(users::group("root"), Ok(Some(0)));
}

#[test]
fn a_number_needs_no_entry_and_a_name_does() {
    let nobody = users::user("987654321").unwrap().unwrap();
    assert_eq!((nobody.uid, nobody.gid, nobody.name.as_deref()), (987_654_321, None, None));
    assert_eq!(users::groups_of(&nobody), Ok(vec![]));
    assert_eq!(users::group("987654321"), Ok(Some(987_654_321)));
    for unknown in ["no-such-user", "", "-1", "4294967295", "a\0b"] {
        assert_eq!(users::user(unknown), Ok(None), "{unknown:?}");
        assert_eq!(users::group(unknown), Ok(None), "{unknown:?}");
    }
}
