//! keepd's own processes are killed: top, proxy, all of them.
//! (behaviour 11.1)

use keepd_model::Signal;
use keepd_testkit::{Project, Running, kill, wait_for_end};

const CONFIGURATION: &str = r#"
[services.web]
command = "${TEST_SERVICE} --ready 0 --fork 2"
ready.notify = true
[services.worker]
command = "${TEST_SERVICE} --ready 0 --ignore-term"
ready.notify = true
"#;

fn proxy(project: &Project) -> u32 {
    let path = project.run_dir().join("proxy.pid");
    let text = std::fs::read_to_string(&path).unwrap();
    text.trim().parse().unwrap()
}

/// Kills top, proxy and manager, the outer ones first, so that none of them can react.
fn lose_keepd(project: &Project, up: &Running) {
    let manager = project.api().get("/v1/version").unwrap().json()["pid"].clone();
    let proxy = proxy(project);
    kill(up.pid());
    kill(proxy);
    kill(u32::try_from(manager.as_u64().unwrap()).unwrap());
}

#[test]
fn without_its_proxy_the_project_ends_as_a_whole() {
    let project = Project::new(CONFIGURATION);
    let up = project.up_and_ready();
    kill(proxy(&project));
    let end = up.wait().expect_code(111);
    assert!(end.stderr.contains("its proxy was lost"), "{}", end.stderr);
    project.assert_nothing_left();
    // And it can be started again.
    let up = project.up_and_ready();
    up.signal(Signal::QUIT);
    let _ = up.wait();
    project.assert_nothing_left();
}

#[test]
fn what_a_lost_keepd_left_behind_is_found_and_ended() {
    let project = Project::new(CONFIGURATION);
    let up = project.up_and_ready();
    let (web, worker) = (project.pid("web"), project.pid("worker"));
    lose_keepd(&project, &up);

    let refused = project.keepd(["up"]).expect_code(111);
    assert!(refused.stderr.contains(&web.to_string()), "{}", refused.stderr);
    assert!(refused.stderr.contains(&worker.to_string()), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: keepd down --leftovers"), "{}", refused.stderr);

    project.keepd(["down", "--leftovers"]).expect_code(0);
    for pid in [web, worker] {
        assert!(wait_for_end(pid, std::time::Duration::ZERO), "{pid} is left");
    }
    let left = project.processes();
    assert!(left.is_empty(), "{left:?}");

    let up = project.up_and_ready();
    up.signal(Signal::QUIT);
    let _ = up.wait();
    project.assert_nothing_left();
}
