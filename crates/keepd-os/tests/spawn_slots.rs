//! The behaviours of `spawn.rs` once more, with a table of descriptors that is shared until the
//! child has its own.

#[path = "spawn.rs"]
mod spawn;

#[test]
fn slots_are_low_and_stay_taken() {
    keepd_os::spawn::reserve_slots().unwrap();
    keepd_os::spawn::reserve_slots().unwrap();
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    let paths = links.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let null = paths.filter(|path| path.as_os_str() == "/dev/null").count();
    // 16 sets of 8, some of them in use by the other tests of this program.
    assert!(null > 32, "{null}");
}
