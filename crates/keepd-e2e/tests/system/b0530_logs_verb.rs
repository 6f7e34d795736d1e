//! `logs`: from files, so that it works without a manager.
//! (behaviour 16.5, 16.6, 16.7, 16.8, 16.9)

use keepd_model::Signal;
use keepd_testkit::test_service::pattern;
use keepd_testkit::{LONG, Project, signal, wait_until};

const CONFIGURATION: &str = r#"
[services.a]
command = "${TEST_SERVICE} --ready 0 --lines 30"
ready.notify = true
[services.b]
command = "${TEST_SERVICE} --ready 0 --print first --print-err oops"
ready.notify = true
depends_on = ["a"]
[services.c]
command = "${TEST_SERVICE} --ready 0 --chatter 50"
ready.notify = true
depends_on = ["b"]
"#;

#[test]
fn lines_of_several_services_come_in_the_order_of_time() {
    let project = Project::new(CONFIGURATION);
    let up = project.up_and_ready();
    let logs = project.keepd(["logs", "a", "b"]).expect_code(0).stdout;
    let lines: Vec<&str> = logs.lines().collect();
    assert_eq!(lines.len(), 32, "{logs}");
    assert!(lines[0].ends_with(" a | line 1"), "{logs}");
    assert!(lines[29].ends_with(" a | line 30"), "{logs}");
    let rest: Vec<&str> = lines[30..].iter().map(|line| &line[line.find(' ').unwrap()..]).collect();
    assert!(rest.contains(&" b | first"), "{logs}");
    assert!(rest.contains(&" b ! oops"), "{logs}");
    // Times are RFC 3339 with milliseconds, and do not go back.
    let times: Vec<&str> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert!(times.iter().all(|time| time.len() == 24 && time.ends_with('Z')), "{logs}");
    assert!(times.is_sorted(), "{logs}");

    let few = project.keepd(["logs", "-n", "2", "a"]).expect_code(0).stdout;
    let few: Vec<&str> = few.lines().collect();
    assert_eq!(few.len(), 2);
    assert!(few[0].ends_with("line 29") && few[1].ends_with("line 30"), "{few:?}");
    let object = project.keepd(["logs", "-n", "1", "a", "-o", "json"]).expect_code(0).json();
    assert_eq!(object["service"], "a");
    assert_eq!(object["stream"], "out");
    assert_eq!(object["message"], "line 30");
    assert_eq!(object["generation"], 1);
    project.keepd(["logs", "nobody"]).expect_code(4);

    // The files stay.
    up.signal(Signal::QUIT);
    let _ = up.wait();
    let after = project.keepd(["logs", "a"]).expect_code(0).stdout;
    assert_eq!(after.lines().count(), 30, "{after}");
}

#[test]
fn following_goes_on_while_the_manager_does_nothing() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    let manager = project.api().get("/v1/version").unwrap().json()["pid"].clone();
    let manager = u32::try_from(manager.as_u64().unwrap()).unwrap();
    // SIGSTOP: there, and deaf.
    assert!(signal(manager, Signal::new(19).unwrap()));

    let stored = project.keepd(["logs", "b"]).expect_code(0).stdout;
    assert_eq!(stored.lines().count(), 2, "{stored}");

    let mut follower = project.start_keepd(["logs", "-f", "c"]);
    let output = follower.stdout();
    let number = |line: &str| line.rsplit(' ').next().and_then(|last| last.parse::<u32>().ok());
    let first = output.wait_for_line("a line", LONG, |line| line.contains(" c | chatter "));
    let first = number(&first).unwrap();
    output.wait_for_line("a later line", LONG, |line| {
        line.contains(" c | chatter ") && number(line).is_some_and(|now| now >= first + 5)
    });
    assert!(follower.is_running());
    assert!(signal(manager, Signal::CONT));
    follower.signal(Signal::INT);
    let followed = follower.wait();
    let numbers: Vec<u32> = followed.stdout.lines().filter_map(number).collect();
    let expected: Vec<u32> = (numbers[0]..).take(numbers.len()).collect();
    assert_eq!(numbers, expected, "every line once, in order");
}

/// Returns what stands behind the mark of each line.
fn texts(logs: &str) -> Vec<&str> {
    logs.lines()
        .filter_map(|line| line.split_once(" | ").or(line.split_once(" ! ")))
        .map(|(_, text)| text)
        .collect()
}

#[test]
fn lines_are_chosen_by_stream_pattern_and_time() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    let logs = |words: &[&str]| project.keepd([&["logs"], words].concat()).expect_code(0).stdout;
    assert_eq!(texts(&logs(&["--err", "all"])), ["oops"]);
    assert_eq!(texts(&logs(&["--out", "b"])), ["first"]);
    assert_eq!(texts(&logs(&["--out", "--err", "b"])).len(), 2);
    // The number counts after the filter.
    assert_eq!(texts(&logs(&["a", "--grep", "^line 1[0-9]?$", "-n", "2"])), ["line 18", "line 19"]);
    assert_eq!(texts(&logs(&["a", "b", "--grep", "(?i)OOPS|line 30"])), ["line 30", "oops"]);
    // Everything is younger than an hour, and older than the next minute.
    assert_eq!(texts(&logs(&["a", "--since", "1h"])).len(), 30);
    assert_eq!(texts(&logs(&["a", "--since", "1h", "-n", "1"])), ["line 30"]);
    assert!(logs(&["a", "--until", "1h"]).is_empty());
    let first = logs(&["a", "-n", "all"]);
    let time = first.split(' ').next().unwrap();
    assert_eq!(texts(&logs(&["a", "--since", time])).first(), Some(&"line 1"));
    assert_eq!(texts(&logs(&["a", "--since", "2020-01-01", "--utc"])).len(), 30);

    for (words, message) in [
        (&["--since", "soon"][..], "keepd: cannot use \"soon\" for --since: write how long ago"),
        (&["--since", "5"], "keepd: cannot use \"5\" for --since: a bare number has no unit"),
        (&["--since", "1m", "--until", "1h"], "keepd: cannot print what was written between"),
        (&["--grep", "("], "keepd: cannot use \"(\" for --grep: unclosed group"),
        (&["--raw", "a", "b"], "keepd: cannot print bytes as written of 2 services at once"),
        (&["--raw", "a", "--out", "--err"], "keepd: cannot print both streams of service \"a\""),
        (&["--raw", "a", "-n", "5"], "keepd: cannot use --raw together with --lines"),
        (&["--previous", "-f"], "keepd: cannot use --previous together with --follow"),
    ] {
        let refused = project.keepd([&["logs"], words].concat()).expect_code(100);
        assert!(refused.stderr.starts_with(message), "{words:?}: {}", refused.stderr);
        assert!(refused.stdout.is_empty());
    }
}

#[test]
fn the_previous_run_is_the_one_that_ended() {
    let configuration = r#"
[services.web]
command = "${TEST_SERVICE} --say-variable KEEPD_GENERATION --print 'here I am' --ready 0"
ready.notify = true
restart = "never"
"#;
    let project = Project::new(configuration);
    let up = project.up_and_ready();
    let generations = |words: &[&str]| -> Vec<u64> {
        let found = project.keepd([&["logs", "-o", "json"], words].concat()).expect_code(0);
        let objects = found.stdout.lines().map(|line| serde_json::from_str(line).unwrap());
        objects.map(|object: serde_json::Value| object["generation"].as_u64().unwrap()).collect()
    };
    let none = project.keepd(["logs", "web", "--previous"]).expect_code(0);
    assert!(none.stdout.is_empty());
    assert_eq!(none.stderr, "keepd: the log of service \"web\" knows of no previous run\n");
    // It runs: the run before.
    project.keepd(["restart", "web"]).expect_code(0);
    assert_eq!(generations(&["web", "--previous"]), [1]);
    // It does not: the last one.
    project.keepd(["stop", "web"]).expect_code(0);
    assert_eq!(generations(&["web", "--previous"]), [2]);
    assert_eq!(generations(&["web"]), [1, 2]);
    up.signal(Signal::QUIT);
    let _ = up.wait();
    assert_eq!(generations(&["web", "--previous"]), [2]);
    // The next keepd counts from 1 again.
    let _up = project.up_and_ready();
    assert_eq!(generations(&["web", "--previous"]), [2]);
    assert_eq!(generations(&["web"]), [1, 2, 1]);
}

#[test]
fn raw_is_every_byte_and_nothing_else() {
    const MUCH: usize = 700_001;
    let configuration = format!(
        "[services.web]\n\
         command = \"${{TEST_SERVICE}} --write {MUCH} --write-err 3000 --ready 0\"\n\
         ready.notify = true\n[keepd]\necho = \"off\"\n"
    );
    let project = Project::new(&configuration);
    let up = project.up_and_ready();
    up.signal(Signal::QUIT);
    let _ = up.wait();
    let raw = |words: &[&str]| {
        let mut command = project.command(keepd_testkit::keepd_program());
        let found = command.args(["logs", "--raw", "web"]).args(words).output().unwrap();
        assert!(found.status.success() && found.stderr.is_empty(), "{found:?}");
        found.stdout
    };
    assert!(raw(&[]) == pattern(MUCH));
    assert!(raw(&["--err"]) == pattern(3000));
    assert!(raw(&["--previous"]) == pattern(MUCH));
    assert!(raw(&["--since", "1h"]) == pattern(MUCH));
    assert!(raw(&["--until", "1h"]).is_empty());
}

#[test]
fn following_has_the_same_filters_and_an_end() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    let mut date = project.command("date");
    let date = date.args(["-u", "-d", "+3 seconds", "+%Y-%m-%dT%H:%M:%SZ"]).output().unwrap();
    let until = String::from_utf8(date.stdout).unwrap().trim().to_owned();
    let words = ["logs", "-f", "-n", "3", "--grep", "chatter .*[02468]$|oops", "--until", &until];
    let followed = project.start_keepd(words).wait().expect_code(0).stdout;
    let numbers: Vec<u32> = texts(&followed)
        .into_iter()
        .filter_map(|text| text.strip_prefix("chatter "))
        .map(|number| number.parse().unwrap())
        .collect();
    assert!(numbers.len() > 3, "{followed}");
    let expected: Vec<u32> = (numbers[0]..).step_by(2).take(numbers.len()).collect();
    assert_eq!(numbers, expected);
    let last = followed.lines().last().unwrap();
    assert!(last.split(' ').next().unwrap() < until.as_str(), "{last} and {until}");
}

#[test]
fn a_file_that_was_cut_off_goes_on_from_its_new_end() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    let path = project.log_dir("c").join("out.log");
    wait_until("lines before the cut", LONG, || {
        std::fs::read_to_string(&path).ok().filter(|text| text.lines().count() >= 3)
    });
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    let found = wait_until("lines after the cut", LONG, || {
        let found = project.keepd(["logs", "c"]).expect_code(0).stdout;
        (found.lines().count() >= 5).then_some(found)
    });
    let numbers: Vec<u32> = texts(&found)
        .into_iter()
        .map(|text| text.strip_prefix("chatter ").unwrap().parse().unwrap())
        .collect();
    let expected: Vec<u32> = (numbers[0]..).take(numbers.len()).collect();
    assert_eq!(numbers, expected, "{found}");
    assert!(numbers[0] > 1);
    // Removed altogether, it is made anew.
    std::fs::remove_file(&path).unwrap();
    wait_until("the new file", LONG, || {
        std::fs::read(&path).ok().filter(|bytes| !bytes.is_empty())
    });
}
