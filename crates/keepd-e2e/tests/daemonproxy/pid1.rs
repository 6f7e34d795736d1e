//! As the first process of a namespace of processes: default file, default guard, fatal signals,
//! orphans.
//!
//! The machine's own /etc is not touched: each has a mount namespace with an /etc of the test.

use std::process::Command;

use keepd_model::Signal;
use keepd_testkit::daemonproxy::Conversation;
use keepd_testkit::{LONG, Running, signal, skip, wait_for_end, wait_until};

use crate::exit::{FATAL, rescue};
use crate::fault::{FAULTS, Fault, provoke};
use crate::place::{Place, status_of};

/// Returns a place for each program that can be the first process.
fn places() -> [Place; 2] {
    [Place::new(), Place::of_init()]
}

/// A daemonproxy that is the first process.
struct First {
    running: Running,
    pid: u32,
}

/// What makes a namespace of processes, with a /proc of its own.
const CONTAIN: [&str; 4] = ["--pid", "--fork", "--mount-proc", "--kill-child"];

/// Makes a folder that is seen as /etc, with this default configuration if there is one.
fn make_etc(place: &Place, configuration: Option<&str>) {
    std::fs::create_dir_all(place.path("etc")).unwrap();
    if let Some(text) = configuration {
        place.write("etc/daemonproxy.conf", text);
    }
}

/// Returns a command that makes a daemonproxy with these words the first process. `None` where
/// that cannot be done.
fn contained(place: &Place, words: &[&str]) -> Option<Command> {
    let script = "mount --bind etc /etc && exec \"$@\"";
    std::fs::create_dir_all(place.path("etc")).unwrap();
    let mut probe = place.command("unshare");
    let probe = probe.args(CONTAIN).args(["sh", "-c", script, "sh", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        skip("daemonproxy as the first process: unshare(1) cannot make its namespaces here");
        return None;
    }
    let mut command = place.command("unshare");
    command.args(CONTAIN).args(["sh", "-c", script, "sh", &place.program()]).args(words);
    Some(command)
}

/// Starts a daemonproxy with these words as the first process. `None` where that cannot be done.
#[track_caller]
fn first(place: &Place, words: &[&str]) -> Option<First> {
    let mut running = Running::start(&mut contained(place, words)?);
    let children = format!("/proc/{0}/task/{0}/children", running.pid());
    let pid = wait_until("daemonproxy as the first process", LONG, || {
        assert!(running.is_running(), "it ended: {}", running.stderr().text());
        let pid = std::fs::read_to_string(&children).ok()?.trim().parse().ok()?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (!["unshare\n", "sh\n", "mount\n"].contains(&name.as_str())).then_some(pid)
    });
    Some(First { running, pid })
}

impl First {
    /// Connects to its control socket.
    #[track_caller]
    fn connect(&mut self, place: &Place) -> Conversation {
        let stream = wait_until("the control socket", LONG, || {
            assert!(self.running.is_running(), "it ended: {}", self.running.stderr().text());
            std::os::unix::net::UnixStream::connect(place.path("sock")).ok()
        });
        Conversation::over_socket(stream, self.running.stderr().clone())
    }

    #[track_caller]
    fn signal(&self, number: u8) {
        assert!(signal(self.pid, Signal::new(number).unwrap()), "it has ended");
    }

    #[track_caller]
    fn log_line(&self, words: &[&str]) {
        self.running.stderr().wait_for_line(&format!("a line with {words:?}"), LONG, |line| {
            crate::place::holds(line, words)
        });
    }

    /// Starts `sleep 600` as the service x, its only one, and returns its id as seen from outside.
    #[track_caller]
    fn sleeper(&self, talk: &mut Conversation) -> u32 {
        talk.send("service.args\tx\tsleep\t600");
        talk.send("service.start\tx");
        talk.expect("service.state\tx\tup\t{num}\t{pid}\t{rest}");
        match self.children()[..] {
            [service] => service,
            ref others => panic!("its children are {others:?}"),
        }
    }

    /// Returns its children, as seen from outside.
    fn children(&self) -> Vec<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.pid);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }
}

/// The default file is /etc/daemonproxy.conf.
#[test]
fn it_reads_the_default_file() {
    for place in places() {
        make_etc(&place, Some("socket.create\t-\tsock\nservice.tags\tfrom-the-file\tx\n"));
        let Some(mut first) = first(&place, &[]) else {
            return;
        };
        let mut talk = first.connect(&place);
        let dump = talk.ask("statedump");
        assert!(dump.iter().any(|line| line == "service.tags\tfrom-the-file\tx"), "{dump:#?}");
    }
}

/// `-c` replaces the default file.
#[test]
fn an_option_replaces_the_default_file() {
    for place in places() {
        make_etc(&place, Some("service.tags\tdefault\tx\n"));
        place.write("FILE", "service.tags\tgiven\tx\nsocket.create\t-\tsock\n");
        let Some(mut first) = first(&place, &["-c", "FILE"]) else {
            return;
        };
        let dump = first.connect(&place).ask("statedump");
        assert!(dump.iter().any(|line| line.starts_with("service.tags\tgiven\t")), "{dump:#?}");
        assert!(!dump.iter().any(|line| line.contains("default")), "{dump:#?}");
    }
}

/// Nowhere else is there a default file.
#[test]
fn another_process_has_no_default_file() {
    for place in places() {
        make_etc(&place, Some("terminate\t9\n"));
        let mut command = place.command("unshare");
        let script = "mount --bind etc /etc && exec \"$@\"";
        command.args(["--mount", "sh", "-c", script, "sh", &place.program()]);
        if contained(&place, &[]).is_none() {
            return;
        }
        Running::start(&mut command).wait().expect_code(2);
    }
}

/// An absent default file, unknown options and missing arguments do not end it (A28).
#[test]
fn errors_at_the_start_do_not_end_it() {
    for place in places() {
        make_etc(&place, None);
        let wrong =
            [&[][..], &["--nonsense"], &["word", "-c", "missing"], &["--fd-pool", "x", "-c"]];
        for words in wrong {
            let words: Vec<&str> = ["-S", "sock"].iter().chain(words).copied().collect();
            let Some(mut first) = first(&place, &words) else {
                return;
            };
            let mut talk = first.connect(&place);
            talk.sync();
            first.log_line(&["fatal: ", "continu"]);
            drop(talk);
            assert!(signal(first.running.pid(), Signal::KILL));
            let _ = first.running.wait();
            std::fs::remove_file(place.path("sock")).unwrap();
        }
    }
}

/// It goes on without the null device, and can start what makes it.
#[test]
fn it_goes_on_without_devices() {
    let place = Place::new();
    if contained(&place, &[]).is_none() {
        return;
    }
    let script = "mount -t tmpfs none /dev && exec \"$@\"";
    let mut command = place.command("unshare");
    command.args(CONTAIN).args(["sh", "-c", script, "sh", &place.program(), "-S", "sock"]);
    let mut proxy = place.start_with_socket(&mut command);
    proxy.log_line(&["fatal: ", "/dev/null", "continu"]);
    let script = "test ! -e /dev/null && ! read -r line && mknod /dev/null c 1 3 && echo > $OUT";
    assert_eq!(place.in_service(&mut proxy.talk, "stdin\tnull\tstderr", script), "\n");
}

/// The guard is 1 by default.
#[test]
fn its_guard_is_1_by_default() {
    for place in places() {
        make_etc(&place, Some(""));
        let rescue = rescue(&place);
        let Some(mut first) = first(&place, &["-S", "sock"]) else {
            return;
        };
        let mut talk = first.connect(&place);
        talk.refuses("terminate\t0", &["guard code"]);
        talk.refuses("terminate\t0\t2", &["incorrect"]);
        talk.refuses("terminate\t0\t1", &["exec"]);
        talk.is_silent(&format!("terminate.exec_args\t{rescue}"));
        talk.send("terminate\t7\t1");
        first.running.wait().expect_code(42);
        assert_eq!(place.read("told"), "1 code=7 error=terminated normally\n");
    }
}

/// `--exit-guard` with 0 or nothing switches it off: then it ends as any other.
#[test]
fn the_default_guard_can_be_switched_off() {
    for place in places() {
        make_etc(&place, Some("terminate\t5\n"));
        for code in ["0", ""] {
            let Some(mut command) = contained(&place, &["--exit-guard", code]) else {
                return;
            };
            Running::start(&mut command).wait().expect_code(5);
        }
        let Some(mut command) = contained(&place, &["--exit-guard", "0", "--nonsense"]) else {
            return;
        };
        Running::start(&mut command).wait().expect_code(2);
    }
}

/// A permitted `terminate` whose exec fails ends it with the code.
#[test]
fn a_permitted_terminate_without_a_program_ends_it() {
    for place in places() {
        make_etc(&place, Some("terminate.exec_args\t/nonexistent/program\nterminate\t6\t1\n"));
        let Some(mut command) = contained(&place, &[]) else {
            return;
        };
        Running::start(&mut command).wait().expect_code(6);
    }
}

/// The end of `-i` does not end it.
#[test]
fn the_end_of_its_input_does_not_end_it() {
    for place in places() {
        make_etc(&place, Some(""));
        // Standard input is the null device: it is at its end from the beginning.
        let Some(mut first) = first(&place, &["-i", "-S", "sock"]) else {
            return;
        };
        let mut talk = first.connect(&place);
        talk.sync();
        talk.sync();
        assert!(first.running.is_running());
    }
}

/// TERM, INT and the like are reported and do nothing else.
#[test]
fn signals_are_reported() {
    for place in places() {
        make_etc(&place, Some(""));
        let Some(mut first) = first(&place, &["-S", "sock"]) else {
            return;
        };
        let mut talk = first.connect(&place);
        talk.sync();
        for (number, name) in [(15, "SIGTERM"), (2, "SIGINT"), (10, "SIGUSR1")] {
            first.signal(number);
            talk.expect(&format!("signal\t{name}\t{{num}}\t1"));
        }
        assert!(first.running.is_running());
    }
}

/// Fatal signals hand over to the rescue program: as process 1, with code and message.
#[test]
fn fatal_signals_hand_over_to_the_rescue_program() {
    for place in places() {
        make_etc(&place, Some("socket.create\t-\tsock\n"));
        let rescue = rescue(&place);
        for number in FATAL {
            let Some(mut first) = first(&place, &["-E", &rescue]) else {
                return;
            };
            first.connect(&place).sync();
            first.signal(number);
            first.running.wait().expect_code(42);
            let told = place.read("told");
            let error = told.strip_prefix("1 code=4 error=").unwrap_or_else(|| panic!("{told:?}"));
            assert!(error.trim() != "" && error != "unset\n", "{told:?}");
            std::fs::remove_file(place.path("told")).unwrap();
            let _ = std::fs::remove_file(place.path("sock"));
        }
    }
}

/// A real fault hands over to the rescue program as well (A28).
#[test]
fn real_faults_hand_over_to_the_rescue_program() {
    for place in places() {
        make_etc(&place, Some("socket.create\t-\tsock\n"));
        let rescue = rescue(&place);
        for fault in FAULTS {
            let Some(mut first) = first(&place, &["-E", &rescue]) else {
                return;
            };
            first.connect(&place).sync();
            if !provoke(first.pid, fault) {
                return;
            }
            let ended = first.running.wait().expect_code(42);
            let said = format!("caught fatal signal {}", fault.name());
            assert_eq!(place.read("told"), format!("1 code=4 error={said}\n"));
            assert!(ended.stderr.contains(&format!("fatal: {said}\n")), "{}", ended.stderr);
            std::fs::remove_file(place.path("told")).unwrap();
            let _ = std::fs::remove_file(place.path("sock"));
        }
    }
}

/// Without a rescue program a real fault ends it, whatever its guard says (A28).
#[test]
fn a_real_fault_without_a_rescue_program_ends_it() {
    for place in places() {
        make_etc(&place, Some("socket.create\t-\tsock\n"));
        for fault in FAULTS {
            let Some(mut first) = first(&place, &[]) else {
                return;
            };
            first.connect(&place).sync();
            if !provoke(first.pid, fault) {
                return;
            }
            first.running.wait().expect_code(4);
            let _ = std::fs::remove_file(place.path("sock"));
        }
    }
}

/// Running services become children of the rescue program, after a real fault too.
#[test]
fn services_become_children_of_the_rescue_program() {
    for place in places() {
        make_etc(&place, Some(""));
        for fault in [None, Some(Fault::Segv)] {
            let Some(mut first) = first(&place, &["-S", "sock", "-E", "sleep\t601"]) else {
                return;
            };
            let mut talk = first.connect(&place);
            let service = first.sleeper(&mut talk);
            match fault {
                None => first.signal(6),
                Some(fault) if provoke(first.pid, fault) => {}
                Some(_) => return,
            }
            wait_until("the rescue program", LONG, || {
                (status_of(first.pid, "Name") == "sleep").then_some(())
            });
            assert_eq!(first.children(), [service]);
            assert_eq!(status_of(service, "PPid"), first.pid.to_string());
            drop(first);
            let _ = std::fs::remove_file(place.path("sock"));
        }
    }
}

/// The end of a service by KILL is told, and an automatic restart follows.
#[test]
fn killed_services_are_reported_and_started_again() {
    for place in places() {
        make_etc(&place, Some(""));
        let Some(mut first) = first(&place, &["-S", "sock"]) else {
            return;
        };
        let mut talk = first.connect(&place);
        let service = first.sleeper(&mut talk);
        talk.send("service.auto_up\tx\t1\talways");
        talk.expect("service.auto_up\tx\t1\talways");
        assert!(signal(service, Signal::KILL));
        talk.expect("service.state\tx\tdown\t{num}\t{pid}\tsignal\tSIGKILL\t{rest}");
        talk.expect("service.state\tx\tup\t{num}\t{pid}\t{rest}");
        let again = first.children();
        assert!(again.len() == 1 && again != [service], "{again:?}");
    }
}

/// Its end is the end of the namespace: nothing that it started is left.
#[test]
fn nothing_outlives_it() {
    for place in places() {
        make_etc(&place, Some(""));
        for is_killed in [false, true] {
            let Some(mut first) = first(&place, &["--exit-guard", "", "-S", "sock"]) else {
                return;
            };
            let mut talk = first.connect(&place);
            let service = first.sleeper(&mut talk);
            if is_killed {
                first.signal(9);
                // unshare(1) has a status of its own for that.
                let _ = first.running.wait();
            } else {
                talk.send("terminate\t5");
                first.running.wait().expect_code(5);
            }
            assert!(wait_for_end(service, LONG), "{service} runs on");
            let _ = std::fs::remove_file(place.path("sock"));
        }
    }
}

/// Without a rescue program a fatal signal that was sent does not end it.
#[test]
fn fatal_signals_without_a_rescue_program_do_not_end_it() {
    for place in places() {
        make_etc(&place, Some(""));
        let Some(mut first) = first(&place, &["-S", "sock"]) else {
            return;
        };
        let mut talk = first.connect(&place);
        for number in FATAL {
            first.signal(number);
            talk.sync();
        }
        first.log_line(&["fatal: ", "continu"]);
        talk.sync();
        assert!(first.running.is_running());
    }
}

/// Orphans by the thousand are reaped and reported to nobody.
#[test]
fn orphans_are_reaped_and_not_reported() {
    for place in places() {
        make_etc(&place, Some(""));
        let Some(mut first) = first(&place, &["-S", "sock"]) else {
            return;
        };
        let mut talk = first.connect(&place);
        let script = "i=0; while [ $i -lt 2000 ]; do (: &); i=$((i+1)); done";
        talk.send(format!("service.args\tx\tsh\t-c\t{script}"));
        talk.send("service.start\tx");
        talk.expect("service.state\tx\tdown\t{num}\t{pid}\texit\t0\t{rest}");
        wait_until("no child", LONG, || first.children().is_empty().then_some(()));
        assert_eq!(talk.sync(), Vec::<String>::new());
    }
}

/// `-D` is ignored, with a warning.
#[test]
fn it_does_not_go_into_the_background() {
    for place in places() {
        make_etc(&place, Some(""));
        let Some(mut first) = first(&place, &["-D", "-S", "sock"]) else {
            return;
        };
        let mut talk = first.connect(&place);
        talk.sync();
        first.log_line(&["warning: "]);
        let name = status_of(first.pid, "Name");
        assert!(["daemonproxy", "keepd-init"].contains(&name.as_str()), "{name}");
        assert!(first.running.is_running());
    }
}
