//! A process from a description: what the child has, what it does not have, and what is said when
//! it fails.

mod support;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use keepd_model::{Errno, Exit, Signal, SpawnFailure, SpawnStep};
use keepd_os::process::DescriptorLimit;
use keepd_os::signals;
use keepd_os::spawn::{Descriptor, Report, Session, spawn};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use support::{Folder, Start, TestGroup, end_of, final_report, is_root, null, standard};

fn failed(step: SpawnStep, errno: Errno) -> Report {
    Report::Failed(SpawnFailure { step, errno })
}

#[test]
fn a_program_runs_and_its_status_is_the_childs() {
    for (arguments, code) in [(["true"], 0), (["false"], 1)] {
        let (report, _, exit) = Start::new(&arguments).run();
        assert_eq!((report, exit), (Report::Executed, Exit::Code(code)));
    }
}

#[test]
fn a_missing_program_is_reported_with_step_and_errno() {
    for program in ["no-such-program-anywhere", "/no/such/program"] {
        let (report, output, exit) = Start::new(&[program]).run();
        assert_eq!(report, failed(SpawnStep::Exec, Errno::ENOENT), "{program}");
        assert_eq!((output.as_str(), exit), ("", Exit::Code(127)));
    }
}

#[test]
fn a_program_that_may_not_be_executed_is_remembered_over_missing_ones() {
    let folder = Folder::new("spawn-forbidden");
    std::fs::write(folder.join("tool"), "#!/bin/sh\n").unwrap();
    let mut start = Start::new(&["tool"]);
    start.environment =
        vec![format!("PATH={}:/nonexistent", folder.path().display()).into_bytes().into()];
    assert_eq!(start.run().0, failed(SpawnStep::Exec, Errno::EACCES));

    std::fs::write(folder.join("text"), "no program").unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.join("text"), executable).unwrap();
    let text = folder.join("text").display().to_string();
    assert_eq!(Start::new(&[&text]).run().0, failed(SpawnStep::Exec, Errno(8)));
}

#[test]
fn a_relative_program_starts_at_the_new_directory() {
    let mut start = Start::new(&["./sh", "-c", "pwd"]);
    start.directory = Some(b"/bin".to_vec());
    let (report, output, _) = start.run();
    assert_eq!(report, Report::Executed);
    assert!(output == "/bin\n" || output == "/usr/bin\n", "{output:?}");
}

#[test]
fn a_missing_directory_is_reported() {
    let mut start = Start::new(&["true"]);
    start.directory = Some(b"/no/such/directory".to_vec());
    assert_eq!(start.run().0, failed(SpawnStep::Directory, Errno::ENOENT));
}

#[test]
fn strings_that_execve_cannot_carry_are_refused_before_there_is_a_child() {
    let null = null();
    let three = standard([null.as_fd(); 3]);
    let refused = SpawnFailure { step: SpawnStep::Prepare, errno: Errno::EINVAL };
    let mut with_nul = Start::new(&["true", "a\0b"]);
    assert_eq!(spawn(&with_nul.request(&three, &[], None)).unwrap_err(), refused);
    with_nul.arguments.pop();
    with_nul.environment.push(b"A=\0".into());
    assert_eq!(spawn(&with_nul.request(&three, &[], None)).unwrap_err(), refused);
    let empty = Start::new(&[]);
    assert_eq!(spawn(&empty.request(&three, &[], None)).unwrap_err(), refused);
    let start = Start::new(&["true"]);
    for targets in [[5, 5], [2, 4], [-1, 4]] {
        let extra = targets.map(|target| (null.as_fd(), target));
        assert_eq!(spawn(&start.request(&three, &extra, None)).unwrap_err(), refused);
    }
}

#[test]
fn the_environment_is_exactly_the_given_one() {
    let mut start = Start::new(&["/usr/bin/env"]);
    start.environment = vec![b"ONE=1".into(), b"TWO=a b=c".into()];
    assert_eq!(start.run().1, "ONE=1\nTWO=a b=c\n");
    start.environment.clear();
    assert_eq!(start.run().1, "");
}

#[test]
fn the_child_has_exactly_the_descriptors_it_was_given() {
    // A descriptor that is not close-on-exec, as a careless library leaves it.
    let leaky = rustix::io::fcntl_dupfd_cloexec(null(), 60).unwrap();
    rustix::io::fcntl_setfd(&leaky, rustix::io::FdFlags::empty()).unwrap();
    // `ls` itself opens the folder, as the lowest free number.
    let list = Start::new(&["ls", "/proc/self/fd"]);
    assert_eq!(list.run().1, "0\n1\n2\n3\n");
    let extra = [(leaky.as_fd(), 4), (leaky.as_fd(), 9)];
    assert_eq!(list.run_with(&extra).1, "0\n1\n2\n3\n4\n9\n");
    let (report, output, _) =
        Start::shell("ls -l /proc/$$/fd/9 | grep -c /dev/null").run_with(&extra);
    assert_eq!((report, output.as_str()), (Report::Executed, "1\n"));
}

/// Starts a program with these descriptors and returns what it has open, by number.
fn open_in_child(
    descriptors: &[Descriptor<'_>],
    extra: &[(BorrowedFd<'_>, RawFd)],
) -> BTreeMap<RawFd, PathBuf> {
    let start = Start::shell("kill -STOP $$");
    let mut spawned = spawn(&start.request(descriptors, extra, None)).unwrap();
    assert_eq!(final_report(&mut spawned), Report::Executed);
    let number = rustix::process::Pid::from_raw(spawned.pid().get() as i32).unwrap();
    let status = waitid(WaitId::Pid(number), WaitIdOptions::STOPPED).unwrap().unwrap();
    assert!(status.stopped());
    let folder = std::fs::read_dir(format!("/proc/{}/fd", spawned.pid())).unwrap();
    let open = folder.map(|entry| {
        let entry = entry.unwrap();
        let number = entry.file_name().to_str().unwrap().parse().unwrap();
        (number, std::fs::read_link(entry.path()).unwrap())
    });
    let open = open.collect();
    signals::send(spawned.pid(), Signal::KILL).unwrap();
    end_of(spawned.pid());
    open
}

#[test]
fn a_child_may_have_no_descriptor_at_all() {
    assert_eq!(open_in_child(&[], &[]), BTreeMap::new());
    assert_eq!(open_in_child(&[Descriptor::Closed; 5], &[]), BTreeMap::new());
}

#[test]
fn a_list_may_be_long_have_holes_and_name_one_descriptor_often() {
    let null = null();
    let open = Descriptor::Open(null.as_fd());
    let list = [Descriptor::Closed, open, Descriptor::Closed, Descriptor::Closed, open];
    let found = open_in_child(&list, &[(null.as_fd(), 7)]);
    assert_eq!(found.into_keys().collect::<Vec<_>>(), [1, 4, 7]);

    let found = open_in_child(&vec![open; 1_000], &[]);
    assert_eq!(found.len(), 1_000);
    assert!(found.values().all(|path| path == Path::new("/dev/null")));
    assert_eq!((found.keys().next(), found.keys().last()), (Some(&0), Some(&999)));
}

/// Too many for slots, and many of them where another one belongs.
#[test]
fn a_list_may_hold_many_different_descriptors() {
    let folder = Folder::new("spawn-different");
    let files =
        (0..60).map(|index| std::fs::File::create(folder.join(&index.to_string())).unwrap());
    let files: Vec<_> = files.collect();
    let list: Vec<_> = files.iter().rev().map(|file| Descriptor::Open(file.as_fd())).collect();
    let found = open_in_child(&list, &[]);
    let expected = (0..60).map(|index| (index, folder.join(&(59 - index).to_string())));
    assert_eq!(found, expected.collect());
}

#[test]
fn a_descriptor_that_is_missing_fails_in_the_child() {
    let null = null();
    let open = Descriptor::Open(null.as_fd());
    let mut start = Start::new(&["true"]);
    start.failure_status = 3;
    let list = [open, open, Descriptor::Missing];
    let mut spawned = spawn(&start.request(&list, &[], None)).unwrap();
    assert_eq!(final_report(&mut spawned), failed(SpawnStep::Standard, Errno(9)));
    assert_eq!(end_of(spawned.pid()), Exit::Code(3));
}

#[test]
fn descriptors_may_swap_their_numbers() {
    let folder = Folder::new("spawn-swap");
    let open = |name: &str| std::fs::File::create(folder.join(name)).unwrap();
    let (first, second) = (open("first"), open("second"));
    // Each one wants the number that the other one has.
    let extra = [(first.as_fd(), second.as_raw_fd()), (second.as_fd(), first.as_raw_fd())];
    let script = format!("echo 2 >&{}; echo 1 >&{}", first.as_raw_fd(), second.as_raw_fd());
    let shell = Start::new(&["/bin/bash", "-c", &script]);
    assert_eq!(shell.run_with(&extra).2, Exit::Code(0));
    assert_eq!(std::fs::read(folder.join("first")).unwrap(), b"1\n");
    assert_eq!(std::fs::read(folder.join("second")).unwrap(), b"2\n");
}

#[test]
fn standard_descriptors_may_be_the_callers_own_in_any_order() {
    let stdin = rustix::stdio::stdin();
    let stdout = rustix::stdio::stdout();
    let stderr = rustix::stdio::stderr();
    let start = Start::shell("test -e /proc/self/fd/0 -a -e /proc/self/fd/1 -a -e /proc/self/fd/2");
    for three in [[stderr, stdin, stdout], [stdin, stdout, stderr], [stdout; 3]] {
        let mut spawned = spawn(&start.request(&standard(three), &[], None)).unwrap();
        assert_eq!(final_report(&mut spawned), Report::Executed);
        assert_eq!(end_of(spawned.pid()), Exit::Code(0));
    }
}

#[test]
fn a_session_of_its_own_a_group_of_its_own_or_neither() {
    let own = |field: usize| {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        rest.split(' ').nth(field - 3).unwrap().to_owned()
    };
    let (own_group, own_session) = (own(5), own(6));
    for session in [Session::New, Session::ProcessGroup, Session::Inherit] {
        let mut start =
            Start::shell("read -r pid _ _ _ pgrp sid _ </proc/$$/stat; echo $pid $pgrp $sid");
        start.session = session;
        let output = start.run().1;
        let [pid, group, sid] = output.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{output:?}");
        };
        match session {
            Session::New => assert_eq!((group, sid), (pid, pid)),
            Session::ProcessGroup => assert_eq!((group, sid), (pid, own_session.as_str())),
            Session::Inherit => {
                assert_eq!((group, sid), (own_group.as_str(), own_session.as_str()))
            }
            Session::Foreground => unreachable!("it is not in the list: it needs a terminal"),
        }
    }
}

#[test]
fn the_foreground_needs_a_terminal() {
    let mut start = Start::new(&["true"]);
    start.session = Session::Foreground;
    assert_eq!(start.run().0, failed(SpawnStep::Session, Errno(25)));
}

#[test]
fn mask_and_limit_are_those_asked_for() {
    let mut start = Start::shell("umask; ulimit -Sn; ulimit -Hn");
    start.umask = 0o027;
    start.descriptor_limit = Some(DescriptorLimit { soft: 20, hard: 30 });
    assert_eq!(start.run().1, "0027\n20\n30\n");
}

#[test]
fn no_signal_is_blocked_ignored_or_handled() {
    signals::ignore(Signal::USR1).unwrap();
    signals::ignore(Signal::new(40).unwrap()).unwrap();
    signals::block(&[Signal::USR2]).unwrap();
    let shows_none = || {
        let (_, output, _) = Start::new(&["sed", "-n", "/^Sig[BIC]/p", "/proc/self/status"]).run();
        let masks: Vec<_> = output.lines().filter_map(|line| line.split_once(":\t")).collect();
        let none = "0000000000000000";
        assert_eq!(masks, [("SigBlk", none), ("SigIgn", none), ("SigCgt", none)]);
    };
    shows_none();
    // What is ignored is remembered from one spawn to the next, until it changes.
    signals::ignore(Signal::new(41).unwrap()).unwrap();
    shows_none();
}

#[test]
fn a_child_ignores_what_it_is_told_to() {
    signals::ignore(Signal::new(42).unwrap()).unwrap();
    let ignored = signals::ignored_signals();
    assert!(ignored.contains(&Signal::new(42).unwrap()) && !ignored.contains(&Signal::KILL));
    let mut start = Start::new(&["sed", "-n", "s/^SigIgn:.//p", "/proc/self/status"]);
    start.ignored = vec![Signal::HUP, Signal::TERM, Signal::new(64).unwrap()];
    assert_eq!(start.run().1, "8000000000004001\n");
    start.ignored = vec![Signal::KILL];
    assert_eq!(start.run().0, Report::Executed);
}

#[test]
fn identity_is_given_up_in_the_right_order() {
    if !is_root("identity_is_given_up_in_the_right_order") {
        return;
    }
    let mut start = Start::shell("grep -E '^(Uid|Gid|Groups|CapEff)' /proc/self/status");
    start.uid = Some(65_534);
    start.gid = Some(65_533);
    start.groups = Some(vec![7, 8]);
    let output = start.run().1;
    let lines: Vec<_> = output.lines().map(str::trim_end).collect();
    assert_eq!(
        lines,
        [
            "Uid:\t65534\t65534\t65534\t65534",
            "Gid:\t65533\t65533\t65533\t65533",
            "Groups:\t7 8",
            "CapEff:\t0000000000000000",
        ]
    );
    // The service must be able to enter its directory, not its supervisor.
    let folder = Folder::new("spawn-private");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    start.directory = Some(folder.path().display().to_string().into());
    assert_eq!(start.run().0, failed(SpawnStep::Directory, Errno::EACCES));
}

#[test]
fn impossible_groups_and_limits_are_reported_with_their_step() {
    if !is_root("impossible_groups_and_limits_are_reported_with_their_step") {
        return;
    }
    let mut start = Start::new(&["true"]);
    start.groups = Some(vec![0; 100_000]);
    assert_eq!(start.run().0, failed(SpawnStep::Groups, Errno::EINVAL));
    start.groups = None;
    start.descriptor_limit = Some(DescriptorLimit { soft: 9, hard: 8 });
    assert_eq!(start.run().0, failed(SpawnStep::Limits, Errno::EINVAL));
}

#[test]
fn three_hundred_spawns_in_flight_neither_wait_nor_mix() {
    let folder = Folder::new("spawn-many");
    let null = null();
    let mut spawned = Vec::new();
    for index in 0..300 {
        let file = std::fs::File::create(folder.join(&index.to_string())).unwrap();
        let start = Start::shell(&format!("echo {index}; exit {}", index % 100));
        let descriptors = standard([null.as_fd(), file.as_fd(), null.as_fd()]);
        spawned.push(spawn(&start.request(&descriptors, &[], None)).unwrap());
    }
    for (index, mut spawned) in spawned.into_iter().enumerate() {
        assert_eq!(final_report(&mut spawned), Report::Executed);
        assert_eq!(end_of(spawned.pid()), Exit::Code((index % 100) as u8));
        let output = std::fs::read_to_string(folder.join(&index.to_string())).unwrap();
        assert_eq!(output, format!("{index}\n"));
    }
}

#[test]
fn a_spawn_into_a_frozen_group_stalls_nobody() {
    let Some(group) = TestGroup::new("frozen") else {
        return;
    };
    std::fs::write(group.0.path().join("cgroup.freeze"), "1").unwrap();
    // More than there are sets of slots.
    let mut stalled: Vec<_> =
        (0..20).map(|_| Start::new(&["true"]).start_in(Some(&group.0))).collect();
    assert!(stalled.iter_mut().all(|spawned| spawned.report() == Report::Pending));
    assert_eq!(Start::new(&["true"]).run().2, Exit::Code(0));
    group.0.kill().unwrap();
    let mut shared = 0;
    for mut spawned in stalled {
        let exit = Exit::Signal { signal: Signal::KILL, core: false };
        assert_eq!(end_of(spawned.pid()), exit);
        match spawned.report() {
            // Its pipe ended without a word; that it never executed shows only in its exit.
            Report::Executed => {}
            report => {
                assert_eq!(report, Report::Ended);
                shared += 1;
            }
        }
    }
    let slots = env!("CARGO_CRATE_NAME").ends_with("slots");
    assert!(if slots { shared >= 1 } else { shared == 0 }, "{shared} shared");
    // The sets of the dead are free again.
    assert_eq!(Start::new(&["true"]).run().2, Exit::Code(0));
}

#[test]
fn a_child_is_born_in_its_group() {
    let Some(group) = TestGroup::new("birth") else {
        return;
    };
    let leaf = keepd_os::cgroup::Group::create(&group.0, "leaf").unwrap();
    let mut spawned = Start::shell("exec sleep 1000").start_in(Some(&leaf));
    assert_eq!(leaf.pids().unwrap(), [spawned.pid()]);
    assert_eq!(final_report(&mut spawned), Report::Executed);
    assert!(leaf.is_populated().unwrap());
    signals::send(spawned.pid(), Signal::KILL).unwrap();
    end_of(spawned.pid());
    assert!(!leaf.is_populated().unwrap());
    leaf.remove().unwrap();
}
