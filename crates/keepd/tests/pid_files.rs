//! Pid files and instance locks.

use std::sync::Barrier;

use keepd::ErrorCode;
use keepd::lock::InstanceLock;
use keepd::pidfile::PidFile;
use keepd_testkit::Scratch;

fn own_line() -> String {
    format!("{}\n", std::process::id())
}

#[test]
fn the_second_one_is_refused_and_the_file_is_untouched() {
    let scratch = Scratch::new();
    let path = scratch.path().join("web.pid");
    let first = PidFile::acquire(&path).unwrap();
    let error = PidFile::acquire(&path).unwrap_err();
    assert_eq!(error.code(), ErrorCode::AlreadyRunning);
    assert_eq!(error.exit_code(), 111);
    let expected = format!("is locked by process {}", std::process::id());
    assert!(error.to_string().contains(&expected), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), own_line());
    first.release().unwrap();
    assert!(!path.exists());
}

#[test]
fn what_a_killed_process_left_is_taken_over() {
    let scratch = Scratch::new();
    for stale in ["", "4194304999\n", "text that is no number at all", "1\n2\n3\n"] {
        let path = scratch.write("web.pid", stale);
        assert_eq!(PidFile::holder(&path).unwrap(), None, "{stale:?}");
        let held = PidFile::acquire(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), own_line());
        drop(held);
    }
}

#[test]
fn nobody_removes_the_file_of_somebody_else() {
    let scratch = Scratch::new();
    let path = scratch.path().join("web.pid");
    let old = PidFile::acquire(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let new = PidFile::acquire(&path).unwrap();
    drop(old);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), own_line());
    assert_eq!(PidFile::holder(&path).unwrap(), Some(std::process::id()));
    drop(new);
}

#[test]
fn of_many_at_once_exactly_one_gets_it() {
    let scratch = Scratch::new();
    let path = scratch.path().join("web.pid");
    for _ in 0..20 {
        let (start, end) = (Barrier::new(4), Barrier::new(4));
        let won: usize = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        let held = PidFile::acquire(&path);
                        // Nobody lets go before everybody has tried.
                        end.wait();
                        usize::from(held.is_ok())
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).sum()
        });
        assert_eq!(won, 1);
    }
}

#[test]
fn a_bare_file_name_and_a_missing_folder() {
    let error = PidFile::acquire("/nonexistent/web.pid").unwrap_err();
    assert_eq!(error.code(), ErrorCode::FileNotFound);
    assert!(error.to_string().contains("cannot open \"/nonexistent/web.pid\""), "{error}");
}

#[test]
fn an_instance_lock_says_who_has_it_and_never_empties_its_file() {
    let scratch = Scratch::new();
    let path = scratch.path().join("web.lock");
    let mut first = InstanceLock::new(&path);
    first.lock().unwrap();
    first.lock().unwrap();
    let mut second = InstanceLock::new(&path);
    let error = second.lock().unwrap_err();
    assert_eq!(error.code(), ErrorCode::LockFailed);
    assert_eq!(error.category(), "runtime");
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    assert!(!second.is_locked());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), own_line());
    first.unlock().unwrap();
    assert!(!first.is_locked());
    second.lock().unwrap();
    drop(second);
    assert!(!path.exists());
}
