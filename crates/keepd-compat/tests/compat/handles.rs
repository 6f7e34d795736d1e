//! Handles and the log, as plain clients hear of them.

use keepd_compat::Client;
use keepd_engine::proxy::Effect;

use crate::driver::{BOSS, Driver, OTHER};

#[test]
fn handles_are_told_to_everybody_in_the_documented_forms() {
    let mut driver = Driver::new();
    driver.connect(OTHER, Client::Both);
    let cases = [
        ("fd.open⇥a⇥⇥/x", "fd.state⇥a⇥file⇥read⇥/x\n"),
        (
            "fd.open⇥a⇥mkdir,nonblock,trunc,create,append,write,read⇥/x y",
            "fd.state⇥a⇥file⇥read,write,append,create,trunc,nonblock,mkdir⇥/x y\n",
        ),
        ("fd.pipe⇥r⇥w", "fd.state⇥r⇥pipe⇥from⇥w\nfd.state⇥w⇥pipe⇥to⇥r\n"),
        ("fd.pipe⇥s⇥t⇥dgram", "fd.state⇥s⇥pipe⇥unix,dgram,to⇥t\nfd.state⇥t⇥pipe⇥unix,dgram,to⇥s\n"),
        (
            "fd.socket⇥l⇥tcp,listen=11⇥*:11203",
            "fd.state⇥l⇥socket⇥inet,stream,bind,listen=11⇥*:11203\n",
        ),
        ("fd.socket⇥u⇥", "fd.state⇥u⇥socket⇥unix,stream⇥\n"),
        ("fd.delete⇥w", "fd.state⇥w⇥deleted\n"),
        ("fd.delete⇥stdout", "fd.state⇥stdout⇥deleted\n"),
    ];
    for (command, expected) in cases {
        assert_eq!(driver.say(BOSS, command), expected, "{command}");
        assert_eq!(driver.heard(OTHER), expected, "{command}");
    }
    // The other end is gone.
    assert_eq!(driver.dumped("fd.state⇥r"), "fd.state⇥r⇥pipe⇥from⇥?\n");
}

#[test]
fn a_descriptor_is_taken_from_whoever_asks() {
    let mut driver = Driver::new();
    driver.connect(OTHER, Client::Both);
    assert_eq!(driver.say(OTHER, "fd.take⇥x"), "fd.state⇥x⇥file⇥read⇥unknown\n");
    assert_eq!(driver.taken_from, Some(OTHER));
    assert_eq!(driver.front.asking(), None);
}

#[test]
fn what_has_no_news_is_silent() {
    let mut driver = Driver::new();
    let commands = "chdir⇥/\nlog.dest⇥fd⇥stderr\nsocket.create⇥-⇥/x\nsocket.create⇥⇥/y\n\
                    socket.delete\nterminate.exec_args⇥sh⇥-c\nterminate.exec_args\n\
                    terminate.guard⇥+⇥5\nterminate.guard⇥-⇥5\nsignal.clear⇥SIGTERM⇥1\n\
                    conn.event_timeout⇥1⇥2";
    assert_eq!(driver.say(BOSS, commands), "");
    assert_eq!(driver.log, []);
    let chdir = Effect::Chdir { path: b"/".to_vec() };
    assert_eq!(driver.effects[0], chdir);
}

#[test]
fn the_filter_is_told_to_the_asker() {
    let mut driver = Driver::new();
    driver.connect(OTHER, Client::Both);
    let told = driver.say(
        BOSS,
        "log.filter\nlog.filter⇥+\nlog.filter⇥-\nlog.filter⇥fatal\nlog.filter⇥+\n\
         log.filter⇥none\nlog.filter⇥-",
    );
    let levels: Vec<&str> = told.lines().map(|line| line.split('⇥').nth(1).unwrap()).collect();
    assert_eq!(levels, ["debug", "info", "debug", "fatal", "fatal", "none", "none"]);
    assert_eq!(driver.heard(OTHER), "");
}

#[test]
fn missing_handles_are_warned_of() {
    let mut driver = Driver::new();
    driver.connect(OTHER, Client::Both);
    let told = driver.say(BOSS, "service.fds⇥x⇥gone⇥null⇥-⇥⇥control.cmd⇥gone⇥lost");
    let expected = "\
warning: fd \"gone\" does not exist
warning: fd \"lost\" does not exist
service.fds⇥x⇥gone⇥null⇥-⇥⇥control.cmd⇥gone⇥lost
";
    assert_eq!(told, expected);
    assert!(driver.heard(OTHER).starts_with("service.fds⇥x⇥"), "warnings are for the sender");
    let told = driver.say(BOSS, "log.dest⇥fd⇥gone");
    assert_eq!(told, "warning⇥fd \"gone\" does not exist, messages wait for it\n");
    assert_eq!(driver.heard(OTHER), "");
}
