//! Folders that are reached, and what is removed from them.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::path::Path;

use keepd_model::Errno;
use keepd_os::folder::{Folder, Kind, Unreachable};
use support::is_root;

/// A user who is neither root nor we.
const SOMEBODY: u32 = 54_321;

const MODE: u32 = 0o755;

fn error_of(reached: Result<Folder, Unreachable>) -> Unreachable {
    reached.unwrap_err()
}

#[test]
fn a_path_of_folders_is_walked_and_made() {
    let scratch = support::Folder::new("folder-walk");
    let below = scratch.join("a/./b/../c");
    assert_eq!(error_of(Folder::reach(&below)), Unreachable::System(Errno::ENOENT));
    Folder::reach_or_make(&scratch.join("a/b"), MODE).unwrap();
    Folder::reach_or_make(&below, MODE).unwrap();
    assert!(scratch.join("a/b").is_dir() && scratch.join("a/c").is_dir());
    Folder::reach_or_make(&below, MODE).unwrap();
    let file = scratch.join("file");
    fs::write(&file, "").unwrap();
    let below_file = error_of(Folder::reach_or_make(&file.join("x"), MODE));
    assert_eq!(below_file, Unreachable::System(Errno(20)));
}

#[test]
fn links_of_our_own_lead_anywhere() {
    let scratch = support::Folder::new("folder-own-links");
    fs::create_dir(scratch.join("there")).unwrap();
    symlink("there", scratch.join("relative")).unwrap();
    symlink(scratch.join("relative"), scratch.join("absolute")).unwrap();
    Folder::reach_or_make(&scratch.join("absolute/below"), MODE).unwrap();
    assert!(scratch.join("there/below").is_dir());
    Folder::reach(Path::new("/proc/self/cwd")).unwrap();
}

#[test]
fn a_link_of_somebody_is_followed_to_what_is_his() {
    if !is_root("a_link_of_somebody_is_followed_to_what_is_his") {
        return;
    }
    let scratch = support::Folder::new("folder-links");
    let (his, ours) = (scratch.join("his"), scratch.join("ours"));
    for folder in [&his, &ours] {
        fs::create_dir(folder).unwrap();
    }
    lchown(&his, Some(SOMEBODY), None).unwrap();
    let (home, away) = (scratch.join("home"), scratch.join("away"));
    symlink("his", &home).unwrap();
    symlink(&ours, &away).unwrap();
    for link in [&home, &away] {
        lchown(link, Some(SOMEBODY), None).unwrap();
    }
    Folder::reach(&home).unwrap();
    Folder::reach_or_make(&home.join("logs/web"), MODE).unwrap();
    assert_eq!(fs::metadata(his.join("logs/web")).unwrap().uid(), 0);

    let astray = Unreachable::Astray { link: away.clone(), owner: SOMEBODY };
    assert_eq!(error_of(Folder::reach(&away)), astray);
    assert_eq!(error_of(Folder::reach_or_make(&away.join("made"), MODE)), astray);
    assert!(!ours.join("made").exists());
    // By way of his own folder he leads nobody further, either.
    let further = his.join("further");
    symlink(&ours, &further).unwrap();
    lchown(&further, Some(SOMEBODY), None).unwrap();
    let astray = error_of(Folder::reach(&home.join("further")));
    assert_eq!(astray, Unreachable::Astray { link: further, owner: SOMEBODY });
}

#[test]
fn what_was_made_below_a_link_of_somebody_is_found_again() {
    if !is_root("what_was_made_below_a_link_of_somebody_is_found_again") {
        return;
    }
    let scratch = support::Folder::new("folder-again");
    let (his, home) = (scratch.join("his"), scratch.join("home"));
    fs::create_dir(&his).unwrap();
    symlink("his", &home).unwrap();
    for path in [&his, &home] {
        lchown(path, Some(SOMEBODY), None).unwrap();
    }
    for _ in 0..2 {
        Folder::reach_or_make(&home.join("logs"), MODE).unwrap();
    }
}

#[test]
fn nothing_is_made_where_a_link_of_somebody_leads() {
    if !is_root("nothing_is_made_where_a_link_of_somebody_leads") {
        return;
    }
    let scratch = support::Folder::new("folder-dangling");
    let link = scratch.join("link");
    symlink(scratch.join("missing"), &link).unwrap();
    lchown(&link, Some(SOMEBODY), None).unwrap();
    let error = error_of(Folder::reach_or_make(&link.join("logs"), MODE));
    assert_eq!(error, Unreachable::System(Errno::ENOENT));
    assert!(!scratch.join("missing").exists());
}

#[test]
fn links_in_a_circle_end() {
    let scratch = support::Folder::new("folder-circle");
    let link = scratch.join("link");
    symlink("link", &link).unwrap();
    let error = error_of(Folder::reach_or_make(&link, MODE));
    assert_eq!(error, Unreachable::System(Errno(40)));
}

#[test]
fn a_name_is_looked_at_and_removed_without_following_it() {
    let scratch = support::Folder::new("folder-names");
    let kept = scratch.join("kept");
    fs::write(&kept, "").unwrap();
    symlink(&kept, scratch.join("link")).unwrap();
    let folder = Folder::reach(&scratch.join(".")).unwrap();
    assert_eq!(folder.kind_of("link".as_ref()), Ok(Kind::Other));
    assert_eq!(folder.unlink("link".as_ref()), Ok(()));
    assert_eq!(folder.kind_of("link".as_ref()), Err(Errno::ENOENT));
    assert!(kept.exists());
    let dev = Folder::reach(Path::new("/dev")).unwrap();
    assert_eq!(dev.kind_of("null".as_ref()), Ok(Kind::Device));
    let root = Folder::reach(Path::new("/")).unwrap();
    assert_eq!(root.kind_of("dev".as_ref()), Ok(Kind::Folder));
}
