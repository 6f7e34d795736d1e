//! Idle means idle.

use std::time::Duration;

use crate::support::{Grouping, Proxy};

#[test]
fn an_idle_proxy_does_not_wake_up() {
    for grouping in [Grouping::Cgroup, Grouping::Environment] {
        let Some(proxy) = Proxy::start_with(grouping) else {
            continue;
        };
        let mut client = proxy.connect();
        let log = proxy.folder().join("log/web");
        client.accepted("service.args\tended\t/bin/true");
        client.accepted("service.start\tended\t0");
        client.expect_run("ended", 1, "down");
        client.accepted("service.args\tweb\t/bin/sleep\t1000");
        client.accepted(&format!("service.log\tweb\tmode=file\tdir={}", log.display()));
        client.accepted("service.set\tweb\tnotify=yes");
        client.accepted("service.start\tweb\t0");
        client.expect_run("web", 1, "up");
        client.accepted("echo\tnow");
        // It gives room back once, after a quiet second.
        assert!(client.is_silent_for(Duration::from_millis(1_500)));
        let before = proxy.sleeps();
        assert!(client.is_silent_for(Duration::from_secs(2)));
        assert_eq!(proxy.sleeps(), before, "{grouping:?}");
    }
}
