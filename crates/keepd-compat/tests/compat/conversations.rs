//! The conversations of the original's protocol, word for word where clients depend on it.

use keepd_compat::Client;
use keepd_model::{Exit, Signal};

use crate::driver::{BOSS, Driver, FILE, OTHER, seconds};

const CONFIGURATION: &str = "\
# a web server, its log writer, and one controller script
fd.pipe⇥weblog.out⇥weblog.in
service.tags⇥weblog⇥kind=logger⇥of=web
service.args⇥weblog⇥logwriter⇥--dir⇥logs/web
service.fds⇥weblog⇥weblog.out⇥null⇥stderr
service.auto_up⇥weblog⇥2⇥always
fd.socket⇥web.listen⇥tcp,listen=64⇥*:8080
service.args⇥web⇥webserver⇥--listen-fd=3
service.fds⇥web⇥null⇥weblog.in⇥weblog.in⇥web.listen
service.auto_up⇥web⇥5⇥always";

#[test]
fn a_configuration_file_is_told_to_whoever_listens() {
    let mut driver = Driver::new();
    driver.connect(FILE, Client::Configuration);
    driver.send(FILE, CONFIGURATION);
    driver.end(FILE, "");
    let expected = "\
fd.state⇥weblog.out⇥pipe⇥from⇥weblog.in
fd.state⇥weblog.in⇥pipe⇥to⇥weblog.out
service.tags⇥weblog⇥kind=logger⇥of=web
service.args⇥weblog⇥logwriter⇥--dir⇥logs/web
service.fds⇥weblog⇥weblog.out⇥null⇥stderr
service.state⇥weblog⇥start⇥1182⇥-⇥-⇥-⇥-⇥-
service.auto_up⇥weblog⇥2⇥always
service.state⇥weblog⇥up⇥1182⇥16788⇥-⇥-⇥0⇥-
fd.state⇥web.listen⇥socket⇥inet,stream,bind,listen=64⇥*:8080
service.args⇥web⇥webserver⇥--listen-fd=3
service.fds⇥web⇥null⇥weblog.in⇥weblog.in⇥web.listen
service.state⇥web⇥start⇥1182⇥-⇥-⇥-⇥-⇥-
service.auto_up⇥web⇥5⇥always
service.state⇥web⇥up⇥1182⇥16789⇥-⇥-⇥0⇥-
";
    assert_eq!(driver.heard(BOSS), expected);
    assert!(driver.closed.contains(&FILE));
    assert_eq!(driver.log, []);
}

#[test]
fn a_controller_that_comes_back_learns_everything_and_goes_on() {
    let mut driver = Driver::new();
    driver.connect(FILE, Client::Configuration);
    driver.send(FILE, CONFIGURATION);
    driver.heard(BOSS);
    driver.now = driver.now.saturating_add(seconds(1));
    let dump = driver.say(BOSS, "conn.event_timeout⇥5⇥20\nstatedump\necho⇥--sync--⇥16789");
    let expected = "\
fd.state⇥control.cmd⇥special⇥write⇥commands to the proxy
fd.state⇥control.event⇥special⇥read⇥events of the proxy
fd.state⇥control.socket⇥special⇥read,write⇥commands to the proxy and its events
fd.state⇥null⇥special⇥read,write⇥/dev/null
fd.state⇥stderr⇥file⇥read,write⇥unknown
fd.state⇥stdin⇥file⇥read,write⇥unknown
fd.state⇥stdout⇥file⇥read,write⇥unknown
fd.state⇥web.listen⇥socket⇥inet,stream,bind,listen=64⇥*:8080
fd.state⇥weblog.in⇥pipe⇥to⇥weblog.out
fd.state⇥weblog.out⇥pipe⇥from⇥weblog.in
service.state⇥web⇥up⇥1182⇥16789⇥-⇥-⇥1⇥-
service.tags⇥web⇥
service.args⇥web⇥webserver⇥--listen-fd=3
service.fds⇥web⇥null⇥weblog.in⇥weblog.in⇥web.listen
service.auto_up⇥web⇥5⇥always
service.state⇥weblog⇥up⇥1182⇥16788⇥-⇥-⇥1⇥-
service.tags⇥weblog⇥kind=logger⇥of=web
service.args⇥weblog⇥logwriter⇥--dir⇥logs/web
service.fds⇥weblog⇥weblog.out⇥null⇥stderr
service.auto_up⇥weblog⇥2⇥always
--sync--⇥16789
";
    assert_eq!(dump, expected);

    driver.now = driver.now.saturating_add(seconds(4));
    driver.signal(Signal::TERM, 1);
    let answers = driver
        .say(BOSS, "signal.clear⇥SIGTERM⇥1\nservice.auto_up⇥web⇥-\nservice.signal⇥web⇥SIGTERM");
    assert_eq!(answers, "signal⇥SIGTERM⇥1187⇥1\nservice.auto_up⇥web⇥-\n");
    driver.now = driver.now.saturating_add(seconds(1));
    let pid = driver.last_pid();
    driver.reap(pid, Exit::Signal { signal: Signal::TERM, core: true });
    let down = "service.state⇥web⇥down⇥1188⇥16789⇥signal⇥SIGTERM⇥6⇥0\n";
    assert_eq!(driver.heard(BOSS), down);
    assert_eq!(driver.say(BOSS, "terminate⇥0\necho⇥after"), "");
    assert_eq!(driver.exit_code, Some(0));
}

#[test]
fn a_job_stays_when_its_submitter_leaves() {
    let mut driver = Driver::new();
    let submitted = driver.say(
        BOSS,
        "service.tags⇥job.17⇥owner=alice⇥queue=thumbs\n\
         service.args⇥job.17⇥make-thumbs⇥album-17\n\
         service.fds⇥job.17⇥null⇥null⇥stderr\n\
         service.start⇥job.17",
    );
    let expected = "\
service.tags⇥job.17⇥owner=alice⇥queue=thumbs
service.args⇥job.17⇥make-thumbs⇥album-17
service.fds⇥job.17⇥null⇥null⇥stderr
service.state⇥job.17⇥start⇥1182⇥-⇥-⇥-⇥-⇥-
service.state⇥job.17⇥up⇥1182⇥16788⇥-⇥-⇥0⇥-
";
    assert_eq!(submitted, expected);
    assert_eq!(driver.say(BOSS, "exit\necho⇥never"), "");
    assert!(driver.closed.contains(&BOSS));
    driver.front.disconnected(BOSS);

    let pid = driver.last_pid();
    driver.now = driver.now.saturating_add(seconds(1));
    driver.reap(pid, Exit::Code(0));
    driver.now = driver.now.saturating_add(seconds(20));
    driver.connect(OTHER, Client::Both);
    let listed = driver.say(OTHER, "statedump\necho⇥q1");
    let job: String = listed
        .lines()
        .filter(|line| !line.starts_with("fd.state"))
        .map(|line| format!("{line}\n"))
        .collect();
    let expected = "\
service.state⇥job.17⇥down⇥1183⇥16788⇥exit⇥0⇥1⇥20
service.tags⇥job.17⇥owner=alice⇥queue=thumbs
service.args⇥job.17⇥make-thumbs⇥album-17
service.fds⇥job.17⇥null⇥null⇥stderr
service.auto_up⇥job.17⇥-
q1
";
    assert_eq!(job, expected);
    let deleted = "service.state⇥job.17⇥deleted⇥-⇥-⇥-⇥-⇥-⇥-\n";
    assert_eq!(driver.say(OTHER, "service.delete⇥job.17"), deleted);
}

#[test]
fn an_interactive_client_is_greeted_and_others_are_not() {
    let mut driver = Driver::new();
    driver.signal(Signal::USR1, 2);
    assert_eq!(driver.heard(BOSS), "signal⇥SIGUSR1⇥1182⇥2\n");
    driver.connect(OTHER, Client::Interactive);
    let greeting = driver.heard(OTHER);
    let first = greeting.lines().next().unwrap();
    assert!(first.starts_with("info⇥daemonproxy (keepd) version "), "{first}");
    assert_eq!(greeting.lines().filter(|line| line.starts_with("info⇥")).count(), 3);
    assert_eq!(greeting.lines().last(), Some("signal⇥SIGUSR1⇥1182⇥2"));
}

#[test]
fn an_upgraded_connection_keeps_what_it_was_not_told_yet() {
    let mut driver = Driver::new();
    let refused = driver.say(BOSS, "proto⇥keepd⇥2\nproto⇥other⇥1");
    assert_eq!(refused.lines().count(), 2, "{refused}");
    driver.send(BOSS, "echo⇥first\nproto⇥keepd⇥1");
    assert_eq!(driver.upgraded, [(BOSS, "first\n".to_owned())]);
    assert!(!driver.front.has(BOSS));
}

#[test]
fn a_controlling_service_hears_pending_signals_then_its_own_up() {
    let mut driver = Driver::new();
    driver.signal(Signal::HUP, 1);
    driver.say(BOSS, "service.args⇥boss⇥./boss\nservice.fds⇥boss⇥control.socket⇥null⇥stderr");
    driver.control = Some(OTHER);
    driver.say(BOSS, "service.auto_up⇥boss⇥1⇥always");
    let expected = "signal⇥SIGHUP⇥1182⇥1\nservice.state⇥boss⇥up⇥1182⇥16788⇥-⇥-⇥0⇥-\n";
    assert_eq!(driver.heard(OTHER), expected);
    driver.say(BOSS, "service.tags⇥boss⇥x");
    assert_eq!(driver.heard(OTHER), "service.tags⇥boss⇥x\n");
}
