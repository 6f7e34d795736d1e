//! `ready_fd`: a line feed on a descriptor means ready.

use crate::support::{Client, Grouping, Proxy};

const BOTH: [Grouping; 2] = [Grouping::Cgroup, Grouping::Environment];

fn set_up(client: &mut Client, script: &str, attributes: &str) {
    client.accepted(&format!("service.args\tweb\t/bin/sh\t-c\t{script}"));
    client.accepted(&format!("service.set\tweb\t{attributes}"));
}

fn descriptors(proxy: &Proxy) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", proxy.pid())).unwrap().count()
}

/// Returns what a dump says of notifications.
fn kept(client: &mut Client) -> Vec<String> {
    client.send("statedump");
    let mut kept = Vec::new();
    loop {
        let line = client.expect("");
        if line.starts_with("dump.end") {
            return kept;
        }
        if line.starts_with("service.notify\t") {
            kept.push(line);
        }
    }
}

#[test]
fn the_first_line_feed_is_told_once_in_each_generation() {
    // (behaviour 2.13)
    for proxy in BOTH.into_iter().filter_map(Proxy::start_with) {
        let mut client = proxy.connect();
        let go = proxy.folder().join("go");
        let script = format!(
            "trap '' PIPE; echo $KEEPD_READY_FD > {1}; printf starting >&7; \
             until [ -e {0} ]; do sleep 0.01; done; echo ready >&7; echo again >&7; \
             exec sleep 1000",
            go.display(),
            proxy.folder().join("variable").display(),
        );
        set_up(&mut client, &script, "ready_fd=7");
        for generation in 1..3_u64 {
            let _ = std::fs::remove_file(&go);
            client.accepted(&format!("service.start\tweb\t{}", generation - 1));
            let up = client.expect(&format!("service.run\tweb\t{generation}\tup\t"));
            let pid = up.split('\t').nth(5).unwrap();
            assert_eq!(kept(&mut client), [""; 0], "nothing was said yet");
            std::fs::write(&go, "").unwrap();
            let told = format!("service.notify\tweb\t{generation}\t{pid}\tREADY_FD=1");
            assert_eq!(client.expect("service.notify\t"), told);
            // A manager that comes later finds it, once.
            assert_eq!(kept(&mut proxy.connect()), [told]);
            client.accepted(&format!("service.stop\tweb\t{generation}"));
            client.expect_run("web", generation, "down");
        }
        let variable = std::fs::read_to_string(proxy.folder().join("variable")).unwrap();
        assert_eq!(variable, "7\n");
    }
}

#[test]
fn a_line_feed_just_before_the_end_is_told_before_the_end() {
    // (behaviour 2.13)
    for proxy in BOTH.into_iter().filter_map(Proxy::start_with) {
        let mut client = proxy.connect();
        for (last, mode) in ["mixed", "all", "main"].into_iter().enumerate() {
            set_up(&mut client, "echo >&3", &format!("ready_fd=3\tkill_mode={mode}"));
            client.accepted(&format!("service.start\tweb\t{last}"));
            client.expect(&format!("service.notify\tweb\t{}\t", last + 1));
            client.expect_run("web", last as u64 + 1, "down");
        }
    }
}

#[test]
fn the_pipe_is_nobody_elses_and_gone_when_it_has_served() {
    // (behaviour 2.13)
    let proxy = Proxy::start();
    let mut client = proxy.connect();
    let go = proxy.folder().join("go");
    let wait = format!("until [ -e {} ]; do sleep 0.01; done", go.display());
    let before = descriptors(&proxy);
    set_up(&mut client, &format!("{wait}; echo >&9; exec sleep 1000"), "ready_fd=9");
    client.accepted("service.start\tweb\t0");
    client.expect_run("web", 1, "up");
    // The list has the descriptor that it is read with.
    let list = client.command("service.exec\tweb\t20000\t/bin/ls\t/proc/self/fd");
    assert_eq!(client.answer(list), format!("ok\t{list}\texit\t0\t0\\n1\\n2\\n3\\n"));
    assert_eq!(descriptors(&proxy), before + 1, "the reading side");
    std::fs::write(&go, "").unwrap();
    client.expect("service.notify\tweb\t1\t");
    assert_eq!(descriptors(&proxy), before);
    client.accepted("service.stop\tweb\t1\tSIGKILL\t0");
    client.expect_run("web", 1, "down");

    // Who closes it without a line, and who never writes, is not ready, and costs nothing later.
    for (generation, script) in [(2, "printf x >&9; exec 9>&-; sleep 1000"), (3, "sleep 1000")] {
        set_up(&mut client, script, "ready_fd=9");
        client.accepted(&format!("service.start\tweb\t{}", generation - 1));
        client.expect_run("web", generation, "up");
        client.accepted(&format!("service.stop\tweb\t{generation}"));
        client.expect_run("web", generation, "down");
        assert_eq!(kept(&mut client), [""; 0]);
        assert_eq!(descriptors(&proxy), before);
    }
}

#[test]
fn the_highest_number_works_and_no_program_leaves_no_pipe() {
    // (behaviour 2.13)
    let proxy = Proxy::start();
    let mut client = proxy.connect();
    let shown = proxy.folder().join("shown");
    set_up(&mut client, &format!("ls /proc/$$/fd > {}", shown.display()), "ready_fd=1023");
    let before = descriptors(&proxy);
    client.accepted("service.start\tweb\t0");
    let end = client.expect_run("web", 1, "down");
    assert_eq!(end, ("exit".to_owned(), "0".to_owned()));
    let shown = std::fs::read_to_string(shown).unwrap();
    assert!(shown.lines().any(|line| line == "1023"), "{shown}");
    client.accepted("service.args\tweb\t/nonexistent");
    client.accepted("service.start\tweb\t1");
    client.expect_run("web", 2, "down");
    assert_eq!(descriptors(&proxy), before);
}
