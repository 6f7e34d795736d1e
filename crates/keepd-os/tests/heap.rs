//! The allocator of a whole program. Each case is a process of its own, told by its argument what
//! to do.

mod support;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::process::Command;

use keepd_model::Errno;
use keepd_os::heap::{
    Heap, has_room, is_low, is_sealed, keep_reserve, region_free_bytes, region_usage, seal,
    system_calls,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[global_allocator]
static HEAP: Heap = Heap;

const MEBIBYTE: usize = 1024 * 1024;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("sealed") => sealed(),
        Some("reserve") => reserve(),
        None | Some(_) => {
            for case in ["sealed", "reserve"] {
                let program = std::env::current_exe().unwrap();
                let status = Command::new(program).arg(case).status().unwrap();
                assert!(status.success(), "{case}: {status}");
                println!("{case}: ok");
            }
        }
    }
}

fn sealed() {
    let mut early = vec![1_u8; 100_000];
    assert!(system_calls() > 0 && !is_sealed());
    seal(2 * MEBIBYTE).unwrap();
    assert_eq!(seal(2 * MEBIBYTE), Err(Errno(libc::EBUSY)));
    let (calls, free) = (system_calls(), region_free_bytes());
    assert!(is_sealed() && has_room(MEBIBYTE) && !has_room(3 * MEBIBYTE));
    for round in 0..50 {
        work(round);
    }
    early.extend([2; 100_000]);
    assert!(early[..100_000].iter().all(|byte| *byte == 1));
    drop(early);
    assert_eq!(region_free_bytes(), free);
    // It is asked before, so that nothing has to fail.
    let mut rows = Vec::with_capacity(4_096);
    while has_room(1_000) {
        rows.push(vec![0_u8; 1_000]);
    }
    assert!(rows.len() > 1_500, "{}", rows.len());
    drop(rows);
    assert!(has_room(MEBIBYTE));
    let usage = region_usage();
    assert_eq!(usage.bytes, 2 * MEBIBYTE);
    assert!(usage.used_bytes_max > 3 * MEBIBYTE / 2 && usage.used_bytes_max <= usage.bytes);
    assert_eq!(system_calls(), calls);
}

/// What a program does with memory.
fn work(round: usize) {
    let mut names = BTreeMap::new();
    let mut numbers = HashMap::new();
    let mut queue = VecDeque::new();
    for index in 0..1_000 {
        let name = format!("service-{round}-{index}");
        numbers.insert(name.clone(), index);
        names.insert(name.clone(), vec![name.clone(); index % 5]);
        queue.push_back(name);
        if index % 3 == 0 {
            let name = queue.pop_front().unwrap();
            assert!(numbers.remove(&name).is_some() && names.remove(&name).is_some());
        }
    }
    let joined = queue.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    assert_eq!(joined.split(' ').count(), names.len());
}

fn reserve() {
    keep_reserve(MEBIBYTE).unwrap();
    assert_eq!(seal(MEBIBYTE), Err(Errno(libc::EBUSY)));
    assert!(!is_low() && has_room(MEBIBYTE) && !is_sealed());
    let free = region_free_bytes();
    // No more addresses than there are now, and what the C library has in store.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    let before = getrlimit(Resource::As);
    let limit = Rlimit { current: Some((kibibytes + 512) * 1024), maximum: before.maximum };
    setrlimit(Resource::As, limit).unwrap();
    let mut rows = Vec::with_capacity(64);
    while has_room(100_000) {
        rows.push(vec![0_u8; 100_000]);
    }
    assert!((1..20).contains(&rows.len()), "{}", rows.len());
    // Work under way can still be finished.
    rows.push(vec![7; 200_000]);
    assert!(is_low() && !has_room(1) && region_free_bytes() <= free - 200_000);
    rows.push(vec![7; 200_000]);
    setrlimit(Resource::As, before).unwrap();
    assert!(!is_low() && has_room(MEBIBYTE));
    assert!(rows.iter().rev().take(2).all(|row| row.iter().all(|byte| *byte == 7)));
    drop(rows);
    assert_eq!(region_free_bytes(), free);
}
