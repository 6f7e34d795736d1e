//! Ledger and journal are damaged while nobody looks, and a keepd has to go on by them: it mends
//! them with a sentence or refuses with one. Nothing is started twice, and nothing is killed.

use std::collections::BTreeMap;

use keepd_model::Signal;
use keepd_testkit::torture::{Keepers, Seeker};
use keepd_testkit::{
    LONG, Project, Running, keepd_program, kill, signal, wait_for_end, wait_until,
};

use crate::instance::{TALKING, count, identities, services};
use crate::ledger_files::{ANSWERED, CHUNKS, Damage, File, Files, IDENTITY};

const STOP: u8 = 19;
const CONT: u8 = 18;
const SERVICES: usize = 4;

/// Four services, the last of which somebody has stopped.
struct Stack {
    project: Project,
    up: Running,
    before: BTreeMap<String, (u64, u64)>,
}

impl Stack {
    fn start() -> Self {
        let patience = "[keepd]\nshutdown_timeout = \"1s\"\n";
        let project = Project::new(&(patience.to_owned() + &services(0..SERVICES, TALKING)));
        let up = project.up_and_ready();
        project.keepd(["stop", "s3"]).expect_code(0);
        let before = identities(&project.services());
        assert_eq!(before.len(), SERVICES - 1);
        Self { project, up, before }
    }

    fn keepers(&self) -> Keepers {
        Seeker::new(&keepd_program(), self.project.mark()).find()
    }

    /// Kills warden, proxy and manager, so that none of them can react.
    fn lose_everything(&self) {
        let Keepers { warden, proxy, manager } = self.keepers();
        let all: Vec<u32> = [warden, proxy, manager].into_iter().flatten().collect();
        assert_eq!(all.len(), 3);
        all.iter().for_each(|pid| assert!(signal(*pid, Signal::new(STOP).unwrap())));
        all.iter().for_each(|pid| kill(*pid));
    }

    /// Kills the proxy, and lets something happen before its warden can look.
    fn lose_proxy(&self, meanwhile: impl FnOnce()) {
        let Keepers { warden, proxy, .. } = self.keepers();
        let warden = warden.expect("there is a warden");
        assert!(signal(warden, Signal::new(STOP).unwrap()));
        kill(proxy.expect("there is a proxy"));
        meanwhile();
        assert!(signal(warden, Signal::new(CONT).unwrap()));
    }

    /// Nobody who ran was touched, and nobody else runs.
    #[track_caller]
    fn assert_untouched(&self) {
        let running: Vec<u32> = self.before.values().map(|(_, pid)| *pid as u32).collect();
        for pid in &running {
            assert!(!wait_for_end(*pid, std::time::Duration::ZERO), "{pid} has ended");
        }
        let starts = self.project.events().entries();
        let starts = starts.iter().filter(|entry| entry.what == "start").count();
        assert_eq!(
            starts,
            SERVICES,
            "something was started: {:?}",
            self.project.events().entries()
        );
        self.project.events().check_instances();
    }

    /// A keepd that was refused what it would go on by says so, and what to do.
    #[track_caller]
    fn assert_refused(&self, why: &str) {
        let refused = self.project.keepd(["up"]).expect_code(111);
        let said = &refused.stderr;
        assert!(said.contains(why), "not \"{why}\" but: {said}");
        assert!(said.contains("hint: keepd down --leftovers"), "{said}");
        self.assert_untouched();
    }

    /// Ends what is left, after which everything begins anew.
    #[track_caller]
    fn clean_up(&self) {
        self.project.keepd(["down", "--leftovers"]).expect_code(0);
        let left = self.project.processes();
        assert!(left.is_empty(), "{left:?}");
        let up = self.project.up_and_ready();
        up.signal(Signal::QUIT);
        let _ = up.wait();
        self.project.assert_nothing_left();
    }

    /// Another keepd goes on with what is there.
    #[track_caller]
    fn assert_taken_over(&self, up: &Running) {
        up.stderr()
            .wait_for_line("a take-over", LONG, |line| line.contains("took over 3 services"));
        wait_until("an answer", LONG, || {
            let answer = self.project.api().get("/v1/services").ok()?;
            let services = answer.json()["services"].as_array().cloned()?;
            (identities(&services) == self.before).then_some(())
        });
        self.assert_untouched();
    }
}

/// Whatever can happen to a file as a whole, and what is said of it.
fn damages(files: &Files, other: &Files) -> Vec<(File, Damage, &'static str)> {
    use Damage::{Boot, Cut, Flip, Foreign, Link, Missing, Mode, Noise, Owner, Version};
    use File::{Journal, Ledger};
    let records = files.records();
    let middle = records[records.len() / 2];
    let last = records[records.len() - 1];
    vec![
        (Ledger, Flip(3), "it is another kind of file"),
        (Ledger, Flip(40), "its head is damaged"),
        (Ledger, Flip(CHUNKS + 1), "its number of slots is damaged"),
        (Ledger, Flip(ANSWERED + 1), "its place in the journal is damaged"),
        (Ledger, Cut(0), "the file is cut short within its head"),
        (Ledger, Cut(511), "the file is cut short within its head"),
        (Ledger, Cut(4096), "the file is cut short: it has 4096 bytes"),
        (Ledger, Cut(files.ledger.len() - 8), "the file is cut short"),
        (Ledger, Version(2), "it has version 2, and this program knows 1"),
        (Ledger, Boot, "it kept no ledger"),
        (Ledger, Foreign(other.ledger.clone()), "it belongs to instance"),
        (Ledger, Noise, "it is another kind of file"),
        (Ledger, Missing, "it kept no ledger"),
        (Ledger, Link, "too many levels of symbolic links"),
        (Ledger, Mode, "operation not permitted"),
        (Ledger, Owner, "operation not permitted"),
        (Journal, Flip(3), "it is another kind of file"),
        (Journal, Flip(40), "its head is damaged"),
        (Journal, Flip(records[0] + 21), "record 1 is damaged"),
        (Journal, Flip(middle + 21), "is damaged"),
        (Journal, Flip(middle + 1), "is damaged"),
        (Journal, Flip(last + 21), "is damaged"),
        (Journal, Cut(0), "the file is cut short within its head"),
        (Journal, Cut(records[0]), "are missing"),
        (Journal, Cut(middle), "are missing"),
        (Journal, Cut(middle + 7), "is damaged"),
        (Journal, Cut(files.journal.len() - 1), "is damaged"),
        (Journal, Version(9), "it has version 9, and this program knows 1"),
        (Journal, Boot, "it was made before the machine was started"),
        (Journal, Foreign(other.journal.clone()), "it belongs to instance"),
        (Journal, Noise, "it is another kind of file"),
        (Journal, Missing, "no such file or directory"),
        (Journal, Link, "too many levels of symbolic links"),
        (Journal, Mode, "operation not permitted"),
        (Journal, Owner, "operation not permitted"),
    ]
}

fn other_files() -> Files {
    let other = Project::new(&services(0..1, TALKING));
    let _up = other.up_and_ready();
    Files::of(&other)
}

#[test]
fn after_the_loss_of_everything_a_damaged_file_is_refused_and_a_sound_one_is_not() {
    let other = other_files();
    let stack = Stack::start();
    stack.lose_everything();
    let files = Files::of(&stack.project);
    for (file, damage, why) in damages(&files, &other) {
        files.damage(file, &damage);
        stack.assert_refused(why);
        files.restore(file);
    }
    // All of that has changed nothing.
    let up = stack.project.start_keepd(["up"]);
    stack.assert_taken_over(&up);
    let doctor = stack.project.keepd(["doctor"]).stdout;
    assert!(doctor.contains("ok      ledger and journal: A successor finds 4 pro"), "{doctor}");
    stack.lose_everything();
    files.damage(File::Ledger, &Damage::Noise);
    stack.assert_refused("it is another kind of file");
    let doctor = stack.project.keepd(["doctor"]).expect_code(1).stdout;
    assert!(doctor.contains("weaker  ledger and journal: No successor can use it"), "{doctor}");
    assert!(doctor.contains("it is another kind of file"), "{doctor}");
    stack.clean_up();
}

#[test]
fn what_a_torn_append_left_is_cut_off_with_a_sentence() {
    let stack = Stack::start();
    stack.lose_everything();
    let files = Files::of(&stack.project);
    let record = files.records()[0];
    let torn = [&files.journal[..], &files.journal[record..record + 30]].concat();
    files.damage(File::Journal, &Damage::Foreign(torn));
    let up = stack.project.start_keepd(["up"]);
    stack.assert_taken_over(&up);
    let log = stack.project.path(".keepd/log/keepd.log");
    let said = [std::fs::read_to_string(log).unwrap_or_default(), up.stderr().text()].concat();
    assert!(said.contains("was torn before it was answered, and was cut off"), "{said}");
}

#[test]
fn a_warden_whose_files_are_damaged_leaves_everything_as_it_is() {
    let other = other_files();
    use Damage::{Cut, Flip, Foreign, Link, Missing, Mode};
    let cases: [(File, Damage, &str); 9] = [
        (File::Ledger, Flip(40), "its head is damaged"),
        (File::Ledger, Flip(ANSWERED + 1), "its place in the journal is damaged"),
        (File::Ledger, Missing, "it kept no ledger"),
        (File::Ledger, Foreign(other.ledger), "it belongs to instance"),
        (File::Ledger, Mode, "operation not permitted"),
        (File::Journal, Flip(600), "is damaged"),
        (File::Journal, Cut(540), "is damaged"),
        (File::Journal, Missing, "no such file or directory"),
        (File::Journal, Link, "too many levels of symbolic links"),
    ];
    for (file, damage, why) in cases {
        let Stack { project, up, before } = Stack::start();
        let mut stack = Stack { project, up, before };
        let files = Files::of(&stack.project);
        stack.lose_proxy(|| files.damage(file, &damage));
        wait_until("the end of its warden", LONG, || (!stack.up.is_running()).then_some(()));
        // What it said before is read by somebody else, who may not have come to it yet.
        let hint = "hint: keepd down --leftovers";
        stack.up.stderr().wait_for_line(hint, LONG, |line| line.contains(hint));
        let said = stack.up.stderr().text();
        assert!(said.contains(why), "{file:?}: not \"{why}\" but: {said}");
        assert!(said.contains("every service is left as it is"), "{said}");
        stack.assert_refused(why);
        stack.clean_up();
    }
}

/// One service has a word that nobody can read: it is unsure, and nobody else is.
#[track_caller]
fn assert_one_unsure(stack: &Stack) {
    let services = stack.project.wait_for("the one to be stuck", LONG, |services| {
        let stuck = services.iter().find(|service| service["state"] == "stuck")?;
        (count(services, "ready") == SERVICES - 2).then(|| (stuck.clone(), services.to_vec()))
    });
    assert_eq!(services.0["name"], "s1");
    let now = identities(&services.1);
    for name in ["s0", "s2"] {
        assert_eq!(now[name], stack.before[name]);
    }
    stack.assert_untouched();
    let why = stack.project.keepd(["why", "s1"]).expect_code(0).stdout;
    assert!(why.contains("it cannot be said whether it still runs"), "{why}");
    // The others are as they always were.
    stack.project.keepd(["restart", "s2"]).expect_code(0);
    stack.project.keepd(["start", "s3"]).expect_code(0);
    let refused = stack.project.keepd(["start", "s1"]);
    assert_ne!(refused.code(), 0, "{}", refused.stdout);
    assert!(!wait_for_end(stack.before["s1"].1 as u32, std::time::Duration::ZERO));
    stack.project.events().check_instances();
    assert_eq!(stack.project.events().of("start", "s1").len(), 1);
}

/// Who is unsure is not signalled, but is not left behind either.
#[track_caller]
fn assert_ended_by_down(stack: &Stack) {
    let warden = stack.keepers().warden.expect("there is one");
    let down = stack.project.keepd(["down"]).expect_code(1);
    assert!(wait_for_end(warden, LONG));
    assert!(down.stderr.contains("cannot stop service \"s1\""), "{}", down.stderr);
    stack.project.assert_nothing_left();
}

#[test]
fn a_damaged_word_of_one_service_does_not_hurt_the_others() {
    for everything_is_lost in [false, true] {
        let mut stack = Stack::start();
        let pid = u32::try_from(stack.before["s1"].1).unwrap();
        let damage = |files: &Files| {
            files.damage(File::Ledger, &Damage::Flip(files.word_of(pid) + 4));
        };
        if everything_is_lost {
            stack.lose_everything();
            damage(&Files::of(&stack.project));
            stack.up = stack.project.start_keepd(["up"]);
        } else {
            stack.lose_proxy(|| damage(&Files::of(&stack.project)));
        }
        assert_one_unsure(&stack);
        assert_ended_by_down(&stack);
    }
}

#[test]
fn a_damaged_identity_is_no_reason_to_start_somebody_twice() {
    // The process is a child of the warden, which consumes nobody who is not written down.
    let stack = Stack::start();
    let pid = u32::try_from(stack.before["s1"].1).unwrap();
    stack.lose_proxy(|| {
        let files = Files::of(&stack.project);
        files.damage(File::Ledger, &Damage::Flip(files.word_of(pid) + IDENTITY + 3));
    });
    stack.project.wait_for("everybody to be ready", LONG, |services| {
        (identities(services) == stack.before).then_some(())
    });
    stack.assert_untouched();
    // Everybody is lost: then nobody can say whose number it is.
    stack.lose_everything();
    let _up = stack.project.start_keepd(["up"]);
    assert_one_unsure(&stack);
    assert_ended_by_down(&stack);
}
