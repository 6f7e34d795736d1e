//! What clients may rely on about order.

use crate::place::Place;

/// Each stream shows changes in the order in which they happened; one run is always `start`, `up`,
/// `down`, never merged, for everybody who listens.
#[test]
fn one_run_is_start_then_up_then_down() {
    let place = Place::new();
    let mut proxy = place.interactive(&["-S", "sock"]);
    let mut other = place.connect("sock", &proxy);
    other.sync();
    for number in 0..20 {
        let name = format!("x{number}");
        proxy.talk.send(format!("service.args\t{name}\ttrue\nservice.start\t{name}"));
        for talk in [&mut proxy.talk, &mut other] {
            talk.expect_next(&format!("service.args\t{name}\ttrue"));
            talk.expect_next(&format!("service.state\t{name}\tstart\t{{num}}\t-\t-\t-\t-\t-"));
            let up = format!("service.state\t{name}\tup\t{{num}}\t{{pid}}\t-\t-\t{{num}}\t-");
            talk.expect_next(&up);
            let how = "{pid}\texit\t0\t{num}\t{num}";
            talk.expect_next(&format!("service.state\t{name}\tdown\t{{num}}\t{how}"));
        }
    }
}

/// Once a client has read `down`, a start is accepted.
#[test]
fn a_service_that_is_down_can_be_started_at_once() {
    let place = Place::new();
    let mut proxy = place.interactive(&[]);
    proxy.talk.send("service.args\tx\ttrue");
    for _ in 0..50 {
        proxy.talk.send("service.start\tx");
        let line = proxy.talk.expect_line("the end or a refusal", |line| {
            let end = line.starts_with("service.state\tx\tdown\t") || line.starts_with("error\t");
            end.then(|| line.to_owned())
        });
        assert!(line.starts_with("service.state\t"), "{line:?}");
    }
}

/// One controller's commands run one at a time: a dump is complete before the next command.
#[test]
fn a_dump_is_complete_before_the_next_command() {
    let place = Place::new();
    let mut proxy = place.interactive(&[]);
    for number in 0..200 {
        proxy.talk.ask(format!("service.tags\tx{number:03}\t{}", "y".repeat(100)));
    }
    proxy.talk.send_bytes(b"statedump\nservice.tags\tx199\tchanged\necho\tmark\n");
    let mut lines = Vec::new();
    loop {
        match proxy.talk.next_line() {
            line if line == "mark" => break,
            line => lines.push(line),
        }
    }
    assert_eq!(lines.pop().unwrap(), "service.tags\tx199\tchanged");
    let services = lines.iter().filter(|line| line.starts_with("service.state\t"));
    assert_eq!(services.count(), 200);
    assert!(lines.iter().all(|line| !line.contains("changed")));
}

/// When a trigger that is set starts a service at once, `start` comes before `service.auto_up`.
#[test]
fn start_comes_before_the_trigger_that_caused_it() {
    let place = Place::new();
    let mut proxy = place.interactive(&[]);
    proxy.talk.ask("service.args\tx\tsleep\t600");
    proxy.talk.send("service.auto_up\tx\t9\talways");
    proxy.talk.expect_next("service.state\tx\tstart\t{num}\t-\t-\t-\t-\t-");
    proxy.talk.expect("service.auto_up\tx\t9\talways");
}

/// Commands of a file are read in the loop: a service starts while later lines are still unread.
#[test]
fn services_start_while_later_lines_are_unread() {
    let place = Place::new();
    let mut file = "service.args\tx\ttrue\nservice.start\tx\n".to_owned();
    for number in 0..500 {
        file.push_str(&format!("service.tags\tlater-{number}\tx\n"));
    }
    place.write("FILE", &file);
    let mut proxy = Place::start_interactive(&mut place.daemonproxy(&["-i", "-c", "FILE"]));
    let up = proxy.talk.expect_line("up, or the last line of the file", |line| {
        let up = line.starts_with("service.state\tx\tup\t");
        let last = line.starts_with("service.tags\tlater-499\t");
        (up || last).then_some(up)
    });
    assert!(up, "all of the file was read first");
}
