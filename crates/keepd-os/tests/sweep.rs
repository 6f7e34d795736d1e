//! Finding what a service started where there is no control group.

mod support;

use std::os::fd::AsFd;

use keepd_model::{Pid, Signal};
use keepd_os::spawn::spawn;
use keepd_os::sweep::{self, Leader, Mark};
use keepd_os::{proc, process};
use support::{Start, await_readable, end_of, null, read_until, standard};

#[test]
fn a_double_forker_with_a_session_of_its_own_is_found_and_nobody_else() {
    let mark = format!("INVOCATION_ID={:032x}", keepd_os::random::seed().unwrap());
    let mut start = Start::shell(
        "setsid sh -c 'sh -c \"echo forked; exec sleep 1000\" & exit' ; \
         env -i sleep 1000 & echo cleared; wait",
    );
    start.environment.push(mark.clone().into_bytes().into());
    let (read, write) = rustix::pipe::pipe().unwrap();
    let null = null();
    let main =
        spawn(&start.request(&standard([null.as_fd(), write.as_fd(), write.as_fd()]), &[], None))
            .unwrap();
    // A bystander with a similar variable.
    let mut bystander = Start::new(&["sleep", "1000"]);
    bystander.environment.push(format!("{mark}0").into_bytes().into());
    let bystander = bystander.start();
    let text = read_until(&read, "cleared\n");
    if !text.contains("forked\n") {
        read_until(&read, "forked\n");
    }

    // The main shell, its child without variables, and the orphan.
    let mut found = Vec::new();
    while found.len() < 3 {
        found = sweep::processes_marked(mark.as_bytes()).unwrap();
    }
    let pids: Vec<Pid> = found.iter().map(|process| process.pid).collect();
    assert!(pids.contains(&main.pid()), "{pids:?}");
    assert!(!pids.contains(&bystander.pid()) && !pids.contains(&process::id()));
    assert!(pids.iter().any(|pid| {
        *pid != main.pid() && proc::stat(*pid).is_some_and(|stat| stat.parent != Some(main.pid()))
    }));

    while !found.is_empty() {
        for process in &found {
            let _ = process.signal(Signal::KILL);
            await_readable(&process.pidfd);
        }
        found = sweep::processes_marked(mark.as_bytes()).unwrap();
    }
    end_of(main.pid());
    keepd_os::signals::send(bystander.pid(), Signal::KILL).unwrap();
    end_of(bystander.pid());
}

#[test]
fn orphans_of_a_session_are_found_whatever_their_environment_says() {
    // What loses its parent comes to this process.
    process::become_subreaper().unwrap();
    let start = Start::shell("(env -i sleep 1000 & env -i sleep 1000 & echo forked) ; exit 0");
    let (read, write) = rustix::pipe::pipe().unwrap();
    let null = null();
    let before: Vec<Leader> = sweep::children(&[])
        .unwrap()
        .iter()
        .filter_map(|child| Leader::of_child(child.pid))
        .collect();
    let main =
        spawn(&start.request(&standard([null.as_fd(), write.as_fd(), write.as_fd()]), &[], None))
            .unwrap();
    let leader = Leader::of_child(main.pid());
    assert!(leader.is_some());
    read_until(&read, "forked\n");
    end_of(main.pid());

    let look = |leader| {
        let mark = Mark { entry: b"INVOCATION_ID=nobody has this", leader };
        sweep::processes_marked_each(&[mark]).unwrap().remove(0)
    };
    assert!(look(None).is_empty());
    let found = look(leader);
    assert_eq!(found.len(), 2);
    let orphans = sweep::children(&before).unwrap();
    for process in &found {
        assert!(orphans.iter().any(|orphan| orphan.pid == process.pid));
        process.signal(Signal::KILL).unwrap();
        end_of(process.pid);
    }
    assert!(look(leader).is_empty());
}
