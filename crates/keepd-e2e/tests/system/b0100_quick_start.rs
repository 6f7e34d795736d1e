//! The quick start of the README: its example comes up, heals, and goes away without a trace.
//! (behaviour 6.3, 8.4, 12.2)

use std::io::{Read, Write};
use std::net::TcpStream;

use keepd_model::Signal;
use keepd_testkit::{LONG, Project, Running, free_port, keepd_program};

/// The example, as it is in the repository.
const EXAMPLE: &str = include_str!("../../../../examples/quickstart/keepd.toml");

fn start(project: &Project, port: u16) -> Running {
    let mut command = project.command(keepd_program());
    command.env("PORT", port.to_string()).env("FLAKY_AFTER", "700ms").args([
        "up",
        "-c",
        "keepd.toml",
    ]);
    Running::start(&mut command)
}

fn get(port: u16, path: &str) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    connection.set_read_timeout(Some(LONG)).unwrap();
    write!(connection, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_example_comes_up_heals_and_leaves_no_trace() {
    let project = Project::named("quickstart", EXAMPLE);
    project.keepd(["check"]).expect_code(0);
    let port = free_port();
    let up = start(&project, port);

    project.wait_for_state("setup", "done");
    project.wait_for_state("web", "ready");
    project.wait_for_state("worker", "ready");
    assert!(get(port, "/").starts_with("HTTP/1.1 200 "));

    // It crashes, and is there again, as another process.
    let flaky = project.wait_for("flaky to come back twice", LONG, |services| {
        let flaky = services.iter().find(|service| service["name"] == "flaky")?;
        (flaky["state"] == "ready" && flaky["generation"].as_u64()? >= 3).then(|| flaky.clone())
    });
    assert_eq!(flaky["restarts"].as_u64(), flaky["generation"].as_u64().map(|last| last - 1));
    assert!(!flaky["last_exit"].is_null());

    // Lines of services and sentences of keepd are on the same terminal.
    for line in [" setup | setup is done", " worker | item 1 is done"] {
        let shown = |text: &str| text.lines().any(|found| found.ends_with(line)).then_some(());
        up.stdout().wait_for(line, LONG, shown);
    }

    up.signal(Signal::INT);
    let end = up.wait().expect_code(0);
    // Dependents first: the last words of worker, then those of web.
    let at = |words: &str| {
        end.stdout.find(words).unwrap_or_else(|| panic!("\"{words}\" is missing:\n{}", end.stdout))
    };
    assert!(at("worker got TERM, finished item") < at("web got TERM"), "{}", end.stdout);
    project.assert_nothing_left();
    // What it wrote stays, and git does not see it.
    assert_eq!(std::fs::read_to_string(project.path(".keepd/.gitignore")).unwrap(), "*\n");
    assert!(String::from_utf8(project.out_log("setup")).unwrap().contains("setup is done"));
}
