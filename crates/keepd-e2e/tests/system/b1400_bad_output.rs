//! Output on bad days: closed, much of it, nowhere to go. The service that it is about is the only
//! one to notice, and what is wrong is said in a sentence.
//! (behaviour 16.1, 16.2, 16.3, 16.4, 16.10)

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use keepd_model::Signal;
use keepd_testkit::test_service::pattern;
use keepd_testkit::{LONG, Mount, Project, Running, wait_until};

/// How much memory keepd's own processes may have used at most, in KiB: far less than what flows
/// through them.
const PEAK_KIB_MAX: u64 = 64 * 1024;

fn stop(project: &Project, up: Running) {
    up.signal(Signal::QUIT);
    let _ = up.wait();
    project.assert_nothing_left();
}

/// Returns the most memory that a process had at once.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

fn manager_pid(project: &Project) -> u32 {
    let version = project.api().get("/v1/version").unwrap().json();
    u32::try_from(version["pid"].as_u64().unwrap()).unwrap()
}

fn proxy_pid(project: &Project) -> u32 {
    fs::read_to_string(project.run_dir().join("proxy.pid")).unwrap().trim().parse().unwrap()
}

#[test]
fn a_service_that_closes_its_output_runs_on() {
    let configuration = r#"
[services.mute]
shell = true
command = 'exec "$TEST_SERVICE" --ready 0 >&- 2>&-'
ready.notify = true
[services.calm]
command = "${TEST_SERVICE} --print hello --ready 0"
ready.notify = true
"#;
    let project = Project::new(configuration);
    let up = project.up_and_ready();
    assert_eq!(project.service("mute")["restarts"], 0);
    assert!(project.keepd(["logs", "mute"]).expect_code(0).stdout.is_empty());
    let hello = project.keepd(["logs", "calm"]).expect_code(0).stdout;
    assert!(hello.ends_with(" calm | hello\n"), "{hello}");
    // Its pipes are good for another run, and for one that does not close them.
    project.keepd(["restart", "mute"]).expect_code(0);
    project.configure(&configuration.replace(" >&- 2>&-", " --print again"));
    project.keepd(["apply"]).expect_code(0);
    wait_until("a line of the next run", LONG, || {
        let logs = project.keepd(["logs", "mute"]).expect_code(0).stdout;
        logs.ends_with(" mute | again\n").then_some(())
    });
    assert_eq!(project.service("calm")["generation"], 1);
    stop(&project, up);
}

#[test]
fn a_flood_of_output_is_kept_whole_and_stops_nobody() {
    const LINE_BYTES: usize = 1000;
    const LINES: usize = 100_000;
    let configuration = format!(
        r#"
[services.flood]
shell = true
command = '''
cat begin
line=$(head -c {text_bytes} /dev/zero | tr '\0' x)
yes "$line" | head -n {LINES}
exec "$TEST_SERVICE" --ready 0
'''
ready.notify = true
ready.timeout = "5m"
[services.calm]
command = "${{TEST_SERVICE}} --ready 0"
ready.notify = true
"#,
        text_bytes = LINE_BYTES - 1
    );
    let project = Project::new(&configuration);
    let begin = project.path("begin");
    assert!(Command::new("mkfifo").arg(&begin).status().unwrap().success());
    let up = project.up();
    project.wait_for_state("calm", "ready");
    // The service has waited for somebody to open the pipe.
    drop(fs::OpenOptions::new().write(true).open(&begin).unwrap());
    // While it floods, questions are answered and the other service does as it is told.
    let mut answers = 0_u64;
    let mut slowest = Duration::ZERO;
    while project.service("flood")["state"] != "ready" {
        let asked = Instant::now();
        let status = project.keepd(["status", "calm"]);
        slowest = slowest.max(asked.elapsed());
        assert!(matches!(status.code(), 0 | 1), "{status:?}");
        project.keepd(["restart", "calm"]).expect_code(0);
        answers += 1;
    }
    assert!(answers > 0);
    assert_eq!(project.service("calm")["generation"], 1 + answers);
    assert!(slowest < Duration::from_secs(5), "the slowest answer took {slowest:?}");
    assert_eq!(project.service("flood")["restarts"], 0);
    for pid in [manager_pid(&project), proxy_pid(&project)] {
        let peak = peak_kib(pid);
        assert!(peak < PEAK_KIB_MAX, "process {pid} used {peak} KiB");
    }
    let found = wait_until("the last byte", LONG, || {
        let found = project.out_log("flood");
        (found.len() >= LINES * LINE_BYTES).then_some(found)
    });
    assert_eq!(found.len(), LINES * LINE_BYTES);
    let mut line = vec![b'x'; LINE_BYTES];
    line[LINE_BYTES - 1] = b'\n';
    assert!(found.chunks(LINE_BYTES).all(|one| one == line));
    let last = project.keepd(["logs", "flood", "-n", "2"]).expect_code(0).stdout;
    assert_eq!(last.lines().count(), 2);
    stop(&project, up);
}

#[test]
fn a_full_disk_blocks_only_who_writes_and_loses_nothing() {
    const MUCH: usize = 2_000_000;
    let configuration = format!(
        r#"
[services.writer]
command = "${{TEST_SERVICE}} --write {MUCH} --ready 0"
ready.notify = true
ready.timeout = "5m"
[services.neighbour]
command = "${{TEST_SERVICE}} --ready 0"
ready.notify = true
[services.calm]
command = "${{TEST_SERVICE}} --ready 0 --chatter 50"
ready.notify = true
log.dir = "elsewhere"
"#
    );
    let project = Project::new(&configuration);
    let Some(mount) = Mount::small(&project.path(".keepd/log")) else { return };
    let up = project.up();
    let reason = "no space left on device";
    let blocked = wait_until("the full disk", LONG, || {
        let service = project.service("writer");
        service["output_blocked"].as_str().map(str::to_owned)
    });
    assert!(blocked.contains(reason), "{blocked}");
    up.stdout().wait_for_line("a sentence on the terminal", LONG, |line| {
        line.contains(" keepd: writer cannot have its output written: no space left on device")
    });
    let list = project.keepd(["status"]).expect_code(0).stdout;
    let note = "note: the output of service \"writer\" cannot be written: no space left on device";
    assert!(list.contains(note), "{list}");
    let details = project.keepd(["status", "writer"]).expect_code(1).stdout;
    assert!(details.contains("cannot be written: no space left on device"), "{details}");
    let why = project.keepd(["why", "writer"]).expect_code(0).stdout;
    let expected = "  its output cannot be written: no space left on device";
    assert!(why.lines().any(|line| line.starts_with(expected)), "{why}");
    assert!(why.contains("nothing is lost"), "{why}");

    // The others go on, also one whose log is on the same disk.
    assert_eq!(project.service("neighbour")["state"], "ready");
    project.keepd(["restart", "neighbour"]).expect_code(0);
    let chatter = fs::metadata(project.path("elsewhere/out.log")).unwrap().len();
    wait_until("lines of the other one", LONG, || {
        (fs::metadata(project.path("elsewhere/out.log")).unwrap().len() > chatter).then_some(())
    });

    mount.remount("size=16m");
    project.wait_for_state("writer", "ready");
    let found = wait_until("the last byte", LONG, || {
        let found = project.out_log("writer");
        (found.len() >= MUCH).then_some(found)
    });
    assert!(found == pattern(MUCH), "{} bytes", found.len());
    wait_until("the end of the note", LONG, || {
        project.service("writer")["output_blocked"].is_null().then_some(())
    });
    assert_eq!(project.service("writer")["generation"], 1);
    assert!(!project.keepd(["status"]).expect_code(0).stdout.contains(note));
    // What was written on both sides of the pause has its times.
    let bytes = project.command(keepd_testkit::keepd_program());
    assert!(raw(bytes, "writer") == pattern(MUCH));
    stop(&project, up);
}

/// Returns what `keepd logs --raw --since` prints of a service: bytes that the index knows.
fn raw(mut keepd: Command, name: &str) -> Vec<u8> {
    let found = keepd.args(["logs", "--raw", "--since", "1h", name]).output().unwrap();
    assert!(found.status.success(), "{found:?}");
    found.stdout
}

const ONE: &str = "[services.web]\ncommand = \"${TEST_SERVICE} --print hello --ready 0\"\n\
                   ready.notify = true\n";

#[test]
fn state_and_logs_move_where_the_folder_of_the_project_cannot_be_written() {
    let project = Project::new(ONE);
    let folder = project.folder().display().to_string();
    let Some(mount) = Mount::new(project.folder(), &["--bind", &folder]) else { return };
    mount.remount("bind,ro");
    let up = project.up_and_ready();
    let state = Path::new(&folder).with_file_name("home/.local/state/keepd");
    let state = state.join(project.instance());
    let shown = state.display();
    let said = format!(
        "keepd: state and logs are in \"{shown}\", because \"{folder}/.keepd\" cannot be \
         written\n"
    );
    assert!(up.stderr().text().starts_with(&said), "{}", up.stderr().text());
    let logs = project.keepd(["logs"]).expect_code(0).stdout;
    assert!(logs.ends_with(" web | hello\n"), "{logs}");
    assert_eq!(fs::read_to_string(state.join("log/web/out.log")).unwrap(), "hello\n");
    stop(&project, up);
    assert_eq!(project.keepd(["logs"]).expect_code(0).stdout, logs);
}

#[test]
fn without_any_folder_for_state_it_says_what_to_do() {
    let project = Project::new(ONE);
    // A file in the place of the folder stops root, too.
    project.write(".keepd", "");
    let home = project.folder().with_file_name("home");
    fs::write(home.join(".local"), "").unwrap();
    let refused = project.keepd(["up"]).expect_code(111);
    let instance = project.instance();
    let expected = format!(
        "keepd: cannot make folder \"{}/.local/state/keepd/{instance}\": not a directory\n\
         hint: make it writable, or set keepd.state_dir to a folder that is\n",
        home.display()
    );
    assert_eq!(refused.stderr, expected);
    project.assert_nothing_left();
}

#[test]
fn a_log_folder_that_cannot_be_written_is_said_before_anything_runs() {
    let project = Project::new(&format!("{ONE}[keepd]\nlog_dir = \"logs\"\n"));
    let Some(mount) = Mount::small(&project.path("logs")) else { return };
    mount.remount("ro");
    let refused = project.keepd(["up"]).expect_code(111);
    let expected = format!(
        "keepd: cannot write to folder \"{}\": read-only file system\n\
         hint: make it writable, or set keepd.log_dir to a folder that is\n",
        project.path("logs").display()
    );
    assert_eq!(refused.stderr, expected);
    assert!(project.events().entries().is_empty());
    project.assert_nothing_left();
}

#[test]
fn a_log_folder_of_one_service_costs_only_that_service_its_start() {
    let configuration = format!(
        "{ONE}[services.lost]\ncommand = \"${{TEST_SERVICE}}\"\nrestart = \"never\"\n\
         log.dir = \"keepd.toml/log\"\n"
    );
    let project = Project::new(&configuration);
    let up = project.up();
    let service = project.wait_for_state("lost", "failed");
    assert_eq!(service["reason"], "exec-error", "{service}");
    let why = project.keepd(["why", "lost"]).expect_code(0).stdout;
    let folder = project.path("keepd.toml/log").display().to_string();
    let expected = format!("cannot make log folder \"{folder}\": not a directory");
    assert!(why.contains(&expected), "{why}");
    project.wait_for_state("web", "ready");
    stop(&project, up);
}
