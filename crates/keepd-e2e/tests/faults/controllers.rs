//! Controllers that read nothing: the proxy neither waits for them nor grows without bound, and an
//! extended one that reads at last knows the latest.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use keepd_testkit::control::ControlWatch;
use keepd_testkit::{LONG, Project, cpu_ticks};

use crate::instance::{TALKING, identities, manager_pid, proxy_pid, services};

/// How many of each language.
const DEAF: usize = 8;

/// More than an extended connection is given.
const STORM: usize = 3000;

fn connect(socket: &Path, lines: &str) -> UnixStream {
    let mut connection = UnixStream::connect(socket).unwrap();
    connection.set_read_timeout(Some(LONG)).unwrap();
    connection.write_all(lines.as_bytes()).unwrap();
    connection
}

/// The most memory that a process had at once, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn controllers_that_read_nothing_hold_nobody_up() {
    const FAULT: &str = "controllers that read nothing";
    let project = Project::new(&services(0..4, TALKING));
    let _up = project.up_and_ready();
    let socket = project.run_dir().join("proxy.sock");
    let own = [proxy_pid(&project), manager_pid(&project)];
    let before = identities(&project.services());
    let plain: Vec<UnixStream> = (0..DEAF).map(|_| connect(&socket, "statedump\n")).collect();
    let extended: Vec<UnixStream> =
        (0..DEAF).map(|_| connect(&socket, "proto\tkeepd\t1\n@1\tstatedump\n")).collect();
    let watch = ControlWatch::start(&project);
    // Everybody is told of each of these.
    let text = "x".repeat(900);
    let mut storm = connect(&socket, "");
    let reader = storm.try_clone().unwrap();
    let heard = std::thread::spawn(move || {
        let mut lines = BufReader::new(reader).lines().map_while(Result::ok);
        lines.by_ref().filter(|line| line.starts_with("service.tags\tstorm\t")).take(STORM).count()
    });
    for number in 0..STORM {
        storm.write_all(format!("service.tags\tstorm\t{number}\t{text}\n").as_bytes()).unwrap();
    }
    assert_eq!(heard.join().unwrap(), STORM);
    project.keepd(["restart", "s0"]).expect_code(0);
    watch.finish(FAULT);
    let peak = peak_kib(own[0]);
    keepd_testkit::figures::note(FAULT, "most memory of the proxy", &format!("{peak} KiB"));
    // Each extended one has its mebibyte, each plain one much less.
    assert!(peak < 48 * 1024, "the proxy used {peak} KiB");
    assert_eq!([proxy_pid(&project), manager_pid(&project)], own);
    let after = identities(&project.services());
    assert!(before.iter().all(|(name, run)| name == "s0" || after.get(name) == Some(run)));

    // The extended ones hear of the last generation, however much they missed.
    let (generation, pid) = after["s0"];
    for mut connection in extended {
        connection.write_all(b"@2\techo\tthe end\n").unwrap();
        let lines = BufReader::new(connection).lines().map_while(Result::ok);
        let lines: Vec<String> =
            lines.take_while(|line| !line.ends_with("\tthe end") && line != "ok\t2").collect();
        let mut runs = lines.iter().filter(|line| line.starts_with("service.run\ts0\t"));
        let last = runs.next_back().expect("it was told of the service");
        let fields: Vec<&str> = last.split('\t').collect();
        assert_eq!((fields[2], fields[3]), (&*generation.to_string(), "up"), "{last}");
        assert!(fields.contains(&&*pid.to_string()), "{last}");
    }
    // The plain ones are told that they missed something.
    for connection in plain {
        let lines = BufReader::new(connection).lines().map_while(Result::ok);
        let overflow = lines.take(100_000).find(|line| line == "overflow");
        assert!(overflow.is_some(), "a plain connection was not told of its loss");
    }
    assert!(cpu_ticks(own[0]) > 0);
    project.events().check();
}
