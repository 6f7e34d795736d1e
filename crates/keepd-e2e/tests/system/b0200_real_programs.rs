//! A stack of programs that nobody wrote for keepd: redis and nginx from Debian's packages.
//! (behaviour 3.15, 7.1, 8.4)

use std::path::Path;
use std::time::Duration;

use keepd_testkit::{LONG, Project, find_program, free_port, kill, skip, talk, wait_for_end};

fn redis(port: u16, commands: &str) -> String {
    talk(port, &format!("{commands}\r\nQUIT\r\n")).unwrap()
}

fn page(port: u16) -> String {
    let request = "GET /index.html HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    talk(port, request).unwrap()
}

/// Everything that nginx writes is in the project, and its workers run as whoever runs the tests.
fn write_nginx_configuration(project: &Project, port: u16) {
    let prefix = project.path("nginx");
    let user = if nginx_starts_as_root() { "user root;" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", prefix.display()))
        .collect();
    let prefix = prefix.display();
    let text = format!(
        "{user}\nworker_processes 2;\npid {prefix}/nginx.pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\naccess_log off;\n{temporary}\
         server {{\nlisten 127.0.0.1:{port};\nroot {prefix};\n}}\n\
         }}\n"
    );
    project.write("nginx/nginx.conf", text);
    project.write("nginx/index.html", "served by nginx\n");
}

fn nginx_starts_as_root() -> bool {
    let owner = std::fs::metadata("/proc/self").unwrap();
    std::os::unix::fs::MetadataExt::uid(&owner) == 0
}

fn configuration(redis: &Path, redis_port: u16, nginx: &Path, nginx_port: u16) -> String {
    let (redis, nginx) = (redis.display(), nginx.display());
    format!(
        r#"
version = 1

[services.redis]
command = "{redis} --port {redis_port} --bind 127.0.0.1 --dir . --save '' --appendonly no"
ready.port = {redis_port}

[services.nginx]
command = [
  "{nginx}", "-p", "${{keepd.config_dir}}/nginx", "-c", "nginx.conf",
  "-e", "stderr", "-g", "daemon off;",
]
stop_signal = "QUIT"
depends_on = ["redis"]
ready.http = "http://127.0.0.1:{nginx_port}/index.html"
"#
    )
}

fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let list = list.unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[test]
fn redis_and_nginx_come_up_in_order_and_come_back_after_kill() {
    let (Some(redis_program), Some(nginx_program)) =
        (find_program("redis-server"), find_program("nginx"))
    else {
        skip("real programs: redis-server and nginx are not both installed");
        return;
    };
    let (redis_port, nginx_port) = (free_port(), free_port());
    let project =
        Project::new(&configuration(&redis_program, redis_port, &nginx_program, nginx_port));
    write_nginx_configuration(&project, nginx_port);
    let up = project.up_and_ready();

    // Ready means that they answer, at once and without another try.
    assert!(redis(redis_port, "SET a 1\r\nGET a").contains("$1\r\n1\r\n"));
    assert!(page(nginx_port).ends_with("served by nginx\n"));

    let before = project.pid("redis");
    kill(before);
    let after = wait_for_next(&project, "redis", before);
    assert_eq!(after["last_exit"]["signal"], "KILL");
    assert!(redis(redis_port, "PING").contains("+PONG"));

    // The master is killed; its workers hold the listening socket and must be gone before the next
    // one.
    let before = project.pid("nginx");
    let workers = children(before);
    assert_eq!(workers.len(), 2, "nginx has two workers");
    kill(before);
    wait_for_next(&project, "nginx", before);
    for worker in workers {
        assert!(wait_for_end(worker, Duration::ZERO), "worker {worker} is left");
    }
    assert!(page(nginx_port).ends_with("served by nginx\n"));

    project.keepd(["down"]).expect_code(0);
    assert_eq!(up.wait().code(), 0);
    project.assert_nothing_left();
}

/// Waits until a service is ready in another process.
fn wait_for_next(project: &Project, name: &str, before: u32) -> serde_json::Value {
    project.wait_for("the next process to be ready", LONG, |services| {
        let found = services.iter().find(|service| service["name"] == name)?;
        let next = found["state"] == "ready" && found["pid"] != before;
        next.then(|| found.clone())
    })
}
