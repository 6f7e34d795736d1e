//! Logs at offsets, appending, locks, private folders.

mod support;

use std::os::unix::fs::PermissionsExt;

use keepd_model::Errno;
use keepd_os::file;
use support::{Folder, is_root};

#[test]
fn a_log_is_written_where_the_caller_says() {
    let folder = Folder::new("file-log");
    let path = folder.join("out.log");
    let log = file::open_log(&path).unwrap();
    assert_eq!(file::write_at(&log, b"world", 6), Ok(5));
    assert_eq!(file::write_at(&log, b"hello ", 0), Ok(6));
    assert_eq!(file::length(&log), Ok(11));
    let mut bytes = [0; 32];
    assert_eq!(file::read_at(&log, &mut bytes, 0), Ok(11));
    assert_eq!(&bytes[..11], b"hello world");
    file::truncate(&log, 5).unwrap();
    drop(log);
    let again = file::open_append(&path).unwrap();
    assert_eq!(file::append(&again, b"!"), Ok(1));
    assert_eq!(std::fs::read(&path).unwrap(), b"hello!");
}

#[test]
fn links_and_other_files_are_no_logs() {
    let folder = Folder::new("file-link");
    std::os::unix::fs::symlink("/etc/passwd", folder.join("link")).unwrap();
    assert_eq!(file::open_log(&folder.join("link")).unwrap_err(), Errno(40));
    assert_eq!(file::open_log("/dev/null".as_ref()).unwrap_err(), Errno(29));
    assert_eq!(file::open_log(folder.path()).unwrap_err(), Errno(21));
}

#[test]
fn a_lock_has_one_holder() {
    let folder = Folder::new("file-lock");
    let first = file::open_append(&folder.join("lock")).unwrap();
    let second = file::open_append(&folder.join("lock")).unwrap();
    assert_eq!(file::lock_exclusive(&first), Ok(true));
    assert_eq!(file::lock_exclusive(&second), Ok(false));
    drop(first);
    assert_eq!(file::lock_exclusive(&second), Ok(true));
}

#[test]
fn a_private_folder_is_ours_and_has_its_mode() {
    let folder = Folder::new("file-private");
    let path = folder.join("run");
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    file::create_private_dir(&path, 0o711).unwrap();
    assert_eq!(mode(), 0o711);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    file::create_private_dir(&path, 0o700).unwrap();
    assert_eq!(mode(), 0o700);

    std::os::unix::fs::symlink(&path, folder.join("link")).unwrap();
    assert_eq!(file::create_private_dir(&folder.join("link"), 0o700), Err(Errno(20)));
    assert_eq!(file::create_private_dir(&folder.join("a/b"), 0o700), Err(Errno::ENOENT));
    if is_root("a_private_folder_is_ours_and_has_its_mode") {
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        assert_eq!(file::create_private_dir(&path, 0o700), Err(Errno(1)));
    }
}
