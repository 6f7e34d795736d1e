//! What services have to do with each other, and what is done to them besides: from `keepd.toml` to
//! what people see.
//! (behaviour 3.23, 3.24, 6.11, 6.12, 6.13, 8.8, 10.8, 13.10)

use keepd_testkit::{Entry, LONG, Project, kill, signal, skip, wait_for_end, wait_until};
use serde_json::Value;

fn is_alive(pid: u32) -> bool {
    signal(pid, keepd_model::Signal::CONT)
}

#[test]
fn what_a_run_leaves_behind_is_counted_and_ends_with_the_project() {
    let project = Project::new(
        r#"
[services.host]
shell = true
command = "setsid sleep 1000 & echo $! >> left; exec sleep 1001"
kill_mode = "main"
ready.delay = "0s"
[services.other]
command = "${TEST_SERVICE} --ready 0"
ready.notify = true
"#,
    );
    let _up = project.up_and_ready();
    let left = |count: usize| -> Vec<u32> {
        wait_until("the process that is left", LONG, || {
            let text = std::fs::read_to_string(project.path("left")).ok()?;
            let pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
            (pids.len() == count).then_some(pids)
        })
    };
    let counted = |count: u64| {
        if project.cgroup().is_none() {
            return;
        }
        let host = project.service("host");
        assert_eq!(host["leftovers"], count, "{host}");
        assert_eq!(project.service("other")["leftovers"], 0);
        let page = project.keepd(["status", "host"]);
        let page = page.stdout;
        match count {
            0 => assert!(!page.contains("left behind"), "{page}"),
            1 => assert!(page.contains("left behind 1 process of an earlier run"), "{page}"),
            _ => assert!(page.contains(&format!("left behind {count} processes of ")), "{page}"),
        }
    };
    left(1);
    counted(0);
    project.keepd(["restart", "host"]).expect_code(0);
    left(2);
    counted(1);
    kill(project.pid("host"));
    left(3);
    project.wait_for_state("host", "ready");
    counted(2);
    project.keepd(["stop", "host"]).expect_code(0);
    counted(3);
    let pids = left(3);
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    kill(pids[0]);
    assert!(wait_for_end(pids[0], LONG));
    counted(2);
    if project.cgroup().is_none() {
        skip("the count of what is left: no cgroup of version 2 can be divided here");
    }
    project.keepd(["down"]).expect_code(0);
    project.assert_nothing_left();
    assert!(pids.iter().all(|pid| wait_for_end(*pid, std::time::Duration::ZERO)));
}

#[test]
fn a_reload_command_knows_the_main_process() {
    let project = Project::new(
        r#"
[services.web]
command = "${TEST_SERVICE} --ready 0"
ready.notify = true
env = { MOON = "right" }
reload_command = "sh -c 'test $MOON = right && kill -HUP ${MAINPID}'"
[services.odd]
command = "${TEST_SERVICE} --ready 0"
ready.notify = true
reload_command = "sh -c 'echo the file has a hole >&2; exit 4'"
"#,
    );
    let _up = project.up_and_ready();
    let pid = project.pid("web");
    project.keepd(["reload", "web"]).expect_code(0);
    let reload = project.events().wait_for("reload", "web", 1, LONG);
    assert_eq!((reload.pid, project.pid("web")), (pid, pid));
    let failed = project.keepd(["reload", "odd"]).expect_code(1);
    let said = "cannot reload service \"odd\": ";
    assert!(failed.stderr.contains(said), "{}", failed.stderr);
    assert!(failed.stderr.contains("exit 4"), "{}", failed.stderr);
    assert!(failed.stderr.contains("the file has a hole"), "{}", failed.stderr);
    assert_eq!(project.service("odd")["state"], "ready");
}

#[test]
fn groups_of_a_service_are_the_kernels() {
    let owner = std::fs::metadata("/proc/self").unwrap();
    if std::os::unix::fs::MetadataExt::uid(&owner) != 0 {
        skip("group and extra_groups: only root can take on others");
        return;
    }
    let project = Project::new(
        &[
            ("named", "user = 'nobody'\ngroup = 'daemon'\nextra_groups = ['mail', '4711']"),
            ("group", "group = '4712'"),
            ("none", "user = 'nobody'\nextra_groups = []"),
        ]
        .map(|(name, keys)| {
            let command = "echo $(id -u) $(id -g) $(id -G)";
            format!(
                "[services.{name}]\nkind = 'oneshot'\nshell = true\ncommand = '{command}'\n\
                 {keys}\n"
            )
        })
        .concat(),
    );
    let _up = project.start_keepd(["up", "-d"]).wait_for(LONG).expect_code(0);
    let said = |name: &str| {
        let text = wait_until("what id(1) says", LONG, || {
            let text = String::from_utf8(project.out_log(name)).unwrap();
            text.ends_with('\n').then_some(text)
        });
        text.trim_end().to_owned()
    };
    assert_eq!(said("named"), "65534 1 1 8 4711");
    assert!(said("group").starts_with("0 4712 4712"), "{}", said("group"));
    assert_eq!(said("none"), "65534 65534 65534");
    project.keepd(["down"]).expect_code(0);
}

#[test]
fn who_is_restarted_too_often_has_failed() {
    let project = Project::new(
        r#"
[services.crashing]
command = "${TEST_SERVICE} --exit 0 7"
restart_limit = 2
restart_window = "1h"
backoff_initial = "1ms"
backoff_max = "1ms"
"#,
    );
    let _up = project.start_keepd(["up", "-d"]).wait_for(LONG);
    for round in 1..=2 {
        let failed = project.wait_for_state("crashing", "failed");
        assert_eq!(failed["reason"], "limit", "{failed}");
        assert_eq!(project.events().of("start", "crashing").len(), 3 * round);
        let why = project.keepd(["why", "crashing"]).expect_code(0).stdout;
        assert!(why.contains("it would be restarted more than 2 times within "), "{why}");
        assert!(why.contains("restart_limit"), "{why}");
        // Whoever starts it gives it its restarts again.
        if round == 1 {
            project.keepd(["start", "crashing"]).expect_code(1);
        }
    }
}

#[test]
fn who_reacts_follows_what_it_depends_on() {
    let project = Project::new(
        r#"
[defaults]
ready.notify = true
[services.db]
command = "${TEST_SERVICE} --ready 0"
[services.same]
command = "${TEST_SERVICE} --ready 0"
depends_on = ["db"]
[services.again]
command = "${TEST_SERVICE} --ready 0"
depends_on.db.on_stop = "restart"
[services.down]
command = "${TEST_SERVICE} --ready 0"
depends_on.db.on_stop = "stop"
"#,
    );
    let _up = project.up_and_ready();
    kill(project.pid("db"));
    let down = project.wait_for_state("down", "stopped");
    assert_eq!((&down["reason"], &down["wanted"]), (&"dependency".into(), &"down".into()));
    let events = project.events();
    events.wait_for("ready", "again", 2, LONG);
    let again: Vec<Entry> = events.of("start", "again");
    let db: Vec<Entry> = events.of("ready", "db");
    assert!(again[1].nanoseconds > db[1].nanoseconds, "it waited for the other");
    assert_eq!(project.service("same")["generation"], 1);
    let why = project.keepd(["why", "down"]).expect_code(0).stdout;
    assert!(why.contains("db"), "{why}");
    events.check();
}

#[test]
fn a_group_means_its_members() {
    let project = Project::new(
        r#"
[services.backend]
kind = "group"
description = "what is behind"
depends_on = ["db", "cache"]
[services.db]
command = "${TEST_SERVICE} --ready 0"
ready.notify = true
enabled = false
[services.cache]
command = "${TEST_SERVICE} --ready 0"
ready.notify = true
enabled = false
[services.web]
command = "${TEST_SERVICE} --ready 0"
ready.notify = true
depends_on = ["backend"]
"#,
    );
    let _up = project.up_and_ready();
    let group = project.service("backend");
    assert_eq!((&group["state"], &group["pid"]), (&"ready".into(), &Value::Null));
    let before = ["db", "cache", "web"].map(|name| project.pid(name));
    project.keepd(["restart", "backend"]).expect_code(0);
    let after = ["db", "cache"].map(|name| project.pid(name));
    assert!(before.iter().all(|pid| !after.contains(pid)));
    project.keepd(["stop", "backend"]).expect_code(0);
    for name in ["backend", "db", "cache", "web"] {
        assert_eq!(project.service(name)["state"], "stopped", "{name}");
    }
    // Who depends on a group ends before its members.
    let events = project.events();
    let last = |what, name| events.of(what, name).last().unwrap().nanoseconds;
    assert!(["db", "cache"].iter().all(|name| last("end", "web") < last("term", name)));
    project.keepd(["start", "web"]).expect_code(0);
    assert_eq!(project.service("backend")["state"], "ready");
    events.check();
}

#[test]
fn order_holds_without_need() {
    let project = Project::new(
        r#"
[defaults]
ready.notify = true
[services.first]
command = "${TEST_SERVICE} --ready 200"
[services.second]
command = "${TEST_SERVICE} --ready 0"
after = ["first", "absent"]
[services.third]
command = "${TEST_SERVICE} --ready 0"
[services.absent]
command = "${TEST_SERVICE} --ready 0"
enabled = false
before = ["third"]
[services.zero]
command = "${TEST_SERVICE} --ready 200"
before = ["third"]
"#,
    );
    let _up = project.up_and_ready();
    let events = project.events();
    let at = |what, name| events.of(what, name)[0].nanoseconds;
    assert!(at("start", "second") > at("ready", "first"));
    assert!(at("start", "third") > at("ready", "zero"));
    assert_eq!(project.service("absent")["state"], "stopped", "nobody is brought up by order");
    // It is no need: the earlier one may go alone.
    project.keepd(["stop", "first"]).expect_code(0);
    assert_eq!(project.service("second")["state"], "ready");
    project.keepd(["start", "first"]).expect_code(0);
    project.keepd(["down"]).expect_code(0);
    let last = |what, name| events.of(what, name).last().unwrap().nanoseconds;
    assert!(last("end", "second") < last("term", "first"));
    assert!(last("end", "third") < last("term", "zero"));
    events.check();
}
