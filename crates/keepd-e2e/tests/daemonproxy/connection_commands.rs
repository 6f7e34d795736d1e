//! `chdir` and what is silent on success.

use std::fs;

use keepd_testkit::daemonproxy::Daemonproxy;

use crate::services::output_of;

/// `chdir`: the base of later relative paths, and the directory of services.
#[test]
fn chdir_moves_the_proxy_and_its_services() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    fs::create_dir(proxy.path("below")).unwrap();
    controller.is_silent("chdir\tbelow");
    controller.answers("fd.open\tf\twrite,create\tmade", "fd.state\tf\tfile\twrite,create\tmade");
    assert!(proxy.path("below/made").is_file());
    let below = proxy.path("below").display().to_string();
    assert_eq!(output_of(&proxy, &mut controller, "/bin/pwd >../out"), format!("{below}\n"));
    controller.is_silent("chdir\t..");
    let above = proxy.folder().display().to_string();
    assert_eq!(output_of(&proxy, &mut controller, "/bin/pwd >out"), format!("{above}\n"));
}

/// `chdir` names the call and the error, and refuses a missing and a superfluous argument.
#[test]
fn chdir_says_why_it_fails() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    controller.refuses("chdir\tnowhere", &["chdir", "No such file or directory"]);
    fs::write(proxy.path("file"), "").unwrap();
    controller.refuses("chdir\tfile", &["chdir", "Not a directory"]);
    controller.refuses("chdir", &[]);
    controller.refuses("chdir\t/\tmore", &[]);
    let here = proxy.folder().display().to_string();
    assert_eq!(output_of(&proxy, &mut controller, "/bin/pwd >out"), format!("{here}\n"));
}

/// A controller gets no "ok".
#[test]
fn these_commands_are_silent_on_success() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for command in [
        "signal.clear\tSIGUSR1\t1",
        "conn.event_timeout\t15\t30",
        "chdir\t.",
        "log.dest\tfd\tstderr",
        "socket.create\t-\tctl",
        "socket.delete",
        "terminate.exec_args\ttrue",
        "terminate.exec_args",
        "terminate.guard\t+\t5",
        "terminate.guard\t-\t5",
    ] {
        controller.is_silent(command);
    }
}
