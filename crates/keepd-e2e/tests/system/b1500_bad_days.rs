//! Bad days: what goes wrong is told in a clear sentence, the others are untouched, nothing hangs.
//! Starts that cannot be prepared have a page of their own (`b0800_bad_starts`), and so have
//! processes that hide (`b0600_whole_groups`).
//! (behaviour 3.4, 6.5, 7.7, 7.12, 8.4)

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use keepd_testkit::{
    Entry, LONG, Project, Running, cpu_ticks, find_program, skip, test_service, wait_for_end,
    wait_until,
};

/// Is there in every story, and must not notice anything.
const GOOD: &str = "
[services.good]
command = \"${TEST_SERVICE} --ready 0\"
ready.notify = true
";

#[track_caller]
fn why(project: &Project, name: &str) -> String {
    project.keepd(["why", name]).expect_code(0).stdout
}

#[track_caller]
fn assert_good_is_untouched(project: &Project) {
    let good = project.service("good");
    assert_eq!((&good["state"], good["generation"].as_u64()), (&"ready".into(), Some(1)));
}

/// Returns the process ids of proxy and manager.
fn own_processes(project: &Project) -> [u32; 2] {
    let proxy = std::fs::read_to_string(project.run_dir().join("proxy.pid")).unwrap();
    let manager = project.api().get("/v1/version").unwrap().json()["pid"].as_u64().unwrap();
    [proxy.trim().parse().unwrap(), u32::try_from(manager).unwrap()]
}

#[test]
fn a_taken_port_is_told_in_the_words_of_the_server() {
    let Some(redis) = find_program("redis-server") else {
        skip("a taken port: redis-server is not installed");
        return;
    };
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let project = Project::new(&format!(
        "{GOOD}
[services.cache]
command = \"{} --port {port} --bind 127.0.0.1 --save ''\"
ready.port = {port}
restart = \"never\"
[services.user]
command = \"${{TEST_SERVICE}}\"
depends_on = [\"cache\"]
",
        redis.display()
    ));
    let _up = project.up();
    project.wait_for_state("cache", "failed");
    // Somebody answered on that port all the time, and was not taken for the cache.
    let user = project.wait_for_state("user", "waiting");
    assert_eq!((&user["reason"], user["generation"].as_u64()), (&"dependency".into(), Some(0)));
    assert_eq!(project.service("cache")["ready_after_s"], serde_json::Value::Null);
    let why = wait_until("the last lines of the server", LONG, || {
        let why = why(&project, "cache");
        why.contains("the last lines of that run:").then_some(why)
    });
    assert!(why.starts_with("cache is failed\n"), "{why}");
    assert!(why.contains("ended with exit 1"), "{why}");
    assert!(why.contains("bind: Address already in use"), "{why}");
    assert!(why.contains(&format!("Failed listening on port {port}")), "{why}");
    assert_good_is_untouched(&project);

    drop(taken);
    project.keepd(["start", "cache"]).expect_code(0);
    project.wait_for_state("user", "ready");
    assert_good_is_untouched(&project);
}

#[test]
fn a_stranger_on_the_port_is_named_and_not_taken_for_the_service() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let project = Project::new(&format!(
        "{GOOD}
[services.port]
command = \"${{TEST_SERVICE}}\"
ready.port = {port}
[services.http]
command = \"${{TEST_SERVICE}}\"
ready.http = \"http://localhost:{port}/\"
[services.dependent]
command = \"${{TEST_SERVICE}}\"
depends_on = [\"port\"]
"
    ));
    let _up = project.up();
    let sentence = format!("port {port} was taken by another process before this one started: ");
    let holder = format!("(pid {})", std::process::id());
    for name in ["port", "http"] {
        // The answer to a question is no event.
        let said = wait_until("the stranger to be named", LONG, || {
            let waits_for = project.service(name)["waits_for"].to_string();
            waits_for.contains(&sentence).then_some(waits_for)
        });
        assert!(said.contains(&holder), "{said}");
        let why = why(&project, name);
        assert!(why.contains(&sentence) && why.contains(&holder), "{why}");
    }
    assert_eq!(project.service("dependent")["state"], "waiting");
    assert_eq!(project.events().of("start", "dependent").len(), 0);

    // Whoever comes to the port later is the service, as far as anybody can know.
    drop(taken);
    // What another test starts has our sockets until it executes its program.
    let _new = wait_until("the port", LONG, || TcpListener::bind(("127.0.0.1", port)).ok());
    project.wait_for_state("dependent", "ready");
    assert_good_is_untouched(&project);
}

#[test]
fn readiness_that_never_comes_names_what_did_not_answer() {
    let closed = keepd_testkit::free_port();
    let questions = [
        ("http", format!("ready.http = \"http://127.0.0.1:{closed}/healthz\"")),
        ("port", format!("ready.port = {closed}")),
        ("notify", "ready.notify = true".to_owned()),
        ("exec", "ready.exec = \"sh -c 'echo the moon is wrong; exit 1'\"".to_owned()),
    ];
    let mut configuration = GOOD.to_owned();
    for (name, question) in &questions {
        configuration.push_str(&format!(
            "[services.{name}]\ncommand = \"${{TEST_SERVICE}}\"\n{question}\n\
             ready.timeout = \"500ms\"\nrestart = \"never\"\n"
        ));
    }
    configuration.push_str(
        "[services.again]\ncommand = \"${TEST_SERVICE}\"\nready.notify = true\n\
         ready.timeout = \"100ms\"\nbackoff_initial = \"1h\"\nbackoff_max = \"1h\"\n\
         [services.dependent]\ncommand = \"${TEST_SERVICE}\"\ndepends_on = [\"http\"]\n",
    );
    let project = Project::new(&configuration);
    let _up = project.up();
    let refused = "connection refused";
    for (name, expected) in [
        ("http", format!("ready.http http://127.0.0.1:{closed}/healthz: {refused}")),
        ("port", format!("ready.port 127.0.0.1:{closed}: {refused}")),
        ("notify", "ready.notify: READY=1 has not come".to_owned()),
        ("exec", "ready.exec sh: exit 1: the moon is wrong".to_owned()),
    ] {
        let service = project.wait_for_state(name, "failed");
        assert_eq!(service["reason"], "ready-timeout", "{service}");
        let why = why(&project, name);
        let expected = format!("because it was not ready within 0.5s: {expected}");
        assert!(why.contains(&expected), "{expected}\n{why}");
        let pid = project.events().of("start", name)[0].pid;
        assert!(wait_for_end(pid, Duration::ZERO), "\"{name}\" is failed and has a process");
    }
    let table = project.keepd(["status", "-q", "http"]).expect_code(3).stdout;
    assert!(table.contains("last run    not ready in time, "), "{table}");
    // The policy is asked as after any other failure.
    let again = project.wait_for_state("again", "backoff");
    assert_eq!(again["reason"], "ready-timeout", "{again}");
    // Who waits for it says so, and for whom.
    let dependent = project.wait_for_state("dependent", "waiting");
    assert_eq!(dependent["reason"], "dependency", "{dependent}");
    let why = why(&project, "dependent");
    assert!(why.contains("http is failed"), "{why}");
    assert!(why.contains(refused), "{why}");
    assert_good_is_untouched(&project);
}

#[test]
fn who_ignores_term_gets_kill_when_its_time_is_over() {
    let project = Project::new(&format!(
        "{GOOD}
[services.stubborn]
command = \"${{TEST_SERVICE}} --ready 0 --ignore-term --fork 1\"
ready.notify = true
stop_timeout = \"300ms\"
"
    ));
    let _up = project.up_and_ready();
    let pid = project.pid("stubborn");
    let grandchild = project.events().wait_for("grandchild", "stubborn", 1, LONG).pid;
    project.keepd(["stop", "stubborn"]).expect_code(0);
    for pid in [pid, grandchild] {
        assert!(wait_for_end(pid, Duration::ZERO), "{pid} outlived the stop");
    }
    assert_eq!(project.events().of("term", "stubborn").len(), 1, "it was asked first");
    let stopped = project.service("stubborn");
    assert_eq!(stopped["state"], "stopped");
    assert_eq!(stopped["last_exit"]["signal"], "KILL");
    let why = why(&project, "stubborn");
    assert!(why.starts_with("stubborn is stopped\n  because somebody asked for it"), "{why}");
    assert!(why.contains("ended with signal KILL"), "{why}");
    assert_good_is_untouched(&project);
}

#[test]
fn a_service_that_ends_at_once_for_ever_costs_next_to_nothing() {
    let project = Project::new(&format!(
        "{GOOD}
[services.crashing]
command = \"${{TEST_SERVICE}} --print-err 'no licence' --exit 0 7\"
backoff_initial = \"200ms\"
backoff_max = \"1h\"
backoff_jitter = 0.0
"
    ));
    let _up = project.up();
    let events = project.events();
    events.wait_for("start", "crashing", 1, LONG);
    let own = own_processes(&project);
    let before: u64 = own.into_iter().map(cpu_ticks).sum();
    events.wait_for("start", "crashing", 5, LONG);
    let used = own.into_iter().map(cpu_ticks).sum::<u64>() - before;
    // Four restarts take three seconds. Whoever is busy meanwhile uses 300 ticks of 10 ms.
    assert!(used < 60, "proxy and manager used {used} ticks");

    // Each start came after its delay: 200 ms, and twice as long each time.
    let starts: Vec<Entry> = events.of("start", "crashing");
    for (number, pair) in starts.windows(2).enumerate() {
        let gap = Duration::from_nanos(pair[1].nanoseconds - pair[0].nanoseconds);
        let delay = Duration::from_millis(200 << number);
        assert!(gap >= delay, "start {} came after {gap:?}, not {delay:?}", number + 2);
    }
    project.wait_for("the fifth end", LONG, |services| {
        let found = services.iter().find(|service| service["name"] == "crashing")?;
        let end = &found["last_exit"];
        (found["state"] == "backoff" && end["generation"].as_u64() >= Some(5)).then_some(())
    });
    let status = project.keepd(["status", "crashing"]).expect_code(3).stdout;
    assert!(status.contains("next start  in "), "{status}");
    assert!(status.contains("last run    exit 7"), "{status}");
    let table = project.keepd(["status"]).expect_code(0).stdout;
    assert!(table.contains("exit 7, next in "), "{table}");
    let why = wait_until("its last line", LONG, || {
        let why = why(&project, "crashing");
        why.contains("no licence").then_some(why)
    });
    assert!(why.starts_with("crashing is in backoff, next start in "), "{why}");
    assert!(why.contains("restart policy \"always\" (default)"), "{why}");
    assert_good_is_untouched(&project);
}

#[test]
fn among_two_hundred_the_broken_one_is_named_and_the_rest_is_ready() {
    let mut configuration = String::new();
    for number in 0..200 {
        let command = if number == 117 { "/bin/webd" } else { "${TEST_SERVICE} --ready 0" };
        configuration.push_str(&format!(
            "[services.s{number}]\ncommand = \"{command}\"\nready.notify = true\n"
        ));
    }
    let project = Project::new(&configuration);
    let up = project.keepd(["up", "-d"]).expect_code(1);
    assert_eq!(
        up.stderr,
        "keepd: cannot start service \"s117\": executable \"/bin/webd\" not found\n"
    );
    let services = project.services();
    let ready = services.iter().filter(|service| service["state"] == "ready").count();
    assert_eq!((services.len(), ready), (200, 199));
    project.keepd(["down"]).expect_code(0);
    project.events().check();
    assert_eq!(project.events().of("end", "s199").len(), 1);
    project.assert_nothing_left();
}

/// Connects to the proxy, says something, and returns everything that comes back until the proxy
/// has read it all.
fn say_to_proxy(project: &Project, bytes: &[u8]) -> String {
    let mut connection = UnixStream::connect(project.run_dir().join("proxy.sock")).unwrap();
    connection.set_read_timeout(Some(LONG)).unwrap();
    connection.set_write_timeout(Some(LONG)).unwrap();
    connection.write_all(bytes).unwrap();
    connection.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_controller_that_talks_garbage_is_told_so_and_disturbs_nobody() {
    let project = Project::new(GOOD);
    let _up = project.up_and_ready();
    let own = own_processes(&project);
    let good = project.pid("good");

    let mut noise = test_service::pattern(64 * 1024);
    noise.push(b'\n');
    for line in say_to_proxy(&project, &noise).lines() {
        assert!(line.starts_with("error\t"), "{line:?}");
    }
    // Longer than any line may be; it is refused once, and the next one is heard.
    let mut long = vec![b'a'; 3 << 20];
    long.extend_from_slice(b"\nproto\tkeepd\t1\n");
    let answer = say_to_proxy(&project, &long);
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!(lines.len(), 2, "{answer:?}");
    assert!(lines[0].starts_with("error\tline too long"), "{answer:?}");
    assert!(lines[1].starts_with("proto\tkeepd\t1"), "{answer:?}");
    // Half a line is no command: nobody was told to end.
    assert_eq!(say_to_proxy(&project, b"terminate"), "");
    assert_eq!(say_to_proxy(&project, b""), "");
    let answer = say_to_proxy(&project, b"proto\tkeepd\t1\n@1\tservice.start\tgood\t77\n@\n\0\n");
    let lines: Vec<&str> = answer.lines().skip(1).collect();
    assert_eq!(lines.len(), 3, "{answer:?}");
    assert!(lines[0].starts_with("fail\t1\tstale\t"), "{answer:?}");
    assert!(lines[1..].iter().all(|line| line.starts_with("error\t")), "{answer:?}");

    // Who never reads what it is told keeps nobody waiting.
    let deaf = deaf_connection(&project);
    project.keepd(["restart", "good"]).expect_code(0);
    drop(deaf);
    assert_ne!(project.pid("good"), good);
    assert_eq!(own_processes(&project), own);
    project.events().check();
}

/// Returns a connection that has said bad lines until the proxy took no more, or a mebibyte of
/// them, and that never reads an answer.
fn deaf_connection(project: &Project) -> UnixStream {
    let mut connection = UnixStream::connect(project.run_dir().join("proxy.sock")).unwrap();
    connection.set_nonblocking(true).unwrap();
    for _ in 0..(1 << 20) / 8 {
        match connection.write(b"nothing\n") {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("the proxy hung up: {error}"),
        }
    }
    connection
}

#[test]
fn garbage_at_the_control_socket_is_refused() {
    let project = Project::new(GOOD);
    let _up = project.up_and_ready();
    let own = own_processes(&project);
    let mut connection = UnixStream::connect(project.run_dir().join("keepd.sock")).unwrap();
    connection.set_read_timeout(Some(LONG)).unwrap();
    // It may hang up in the middle.
    let _ = connection.write_all(&test_service::pattern(64 * 1024));
    let mut answer = Vec::new();
    let _ = connection.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    // Half a request, and nothing more.
    let mut half = UnixStream::connect(project.run_dir().join("keepd.sock")).unwrap();
    half.write_all(b"POST /v1/actions HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
        .unwrap();
    project.keepd(["restart", "good"]).expect_code(0);
    drop(half);
    assert_eq!(own_processes(&project), own);
}

#[test]
fn without_room_to_hold_anything_services_start_and_it_is_said_once() {
    let project = Project::new(GOOD);
    let keepd = keepd_testkit::keepd_program();
    // The lock of the instance takes the one number that is there for what is held.
    let script = format!("ulimit -n 257; exec {} up", keepd.display());
    let up = Running::start(project.command("sh").args(["-c", &script]));
    project.wait_for_state("good", "ready");
    let said = "cannot let the warden hold a descriptor: too many open files";
    let heard = up.stderr().text();
    assert_eq!(heard.matches(said).count(), 1, "{heard}");
    up.signal(keepd_model::Signal::TERM);
    up.wait().expect_code(0);

    let script = format!("ulimit -n 100; exec {} up", keepd.display());
    let refused = Running::start(project.command("sh").args(["-c", &script])).wait();
    let refused = refused.expect_code(111).stderr;
    let why = "cannot hold a descriptor under this limit of open files (ulimit -n)";
    assert!(refused.contains(why), "{refused}");
}
