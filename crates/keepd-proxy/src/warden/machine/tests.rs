use keepd_model::{Errno, SpawnStep};

use super::*;

const SEGV: Exit = Exit::Signal { signal: Signal::new(11).unwrap(), core: false };
const KILLED: Exit = Exit::Signal { signal: Signal::KILL, core: false };

fn at(milliseconds: u64) -> Instant {
    Instant::from_nanos(milliseconds * 1_000_000)
}

/// A machine with the work that it asked for, but for words and notes.
struct Driven {
    machine: Machine,
    remembered: Vec<Instant>,
    said: Vec<String>,
}

impl Driven {
    fn new(begin: Begin) -> Self {
        Self::resumed(at(0), begin, &[], None)
    }

    fn resumed(
        now: Instant,
        begin: Begin,
        deaths: &[Instant],
        rescue: Option<Vec<Vec<u8>>>,
    ) -> Self {
        let machine = Machine::new(now, begin, deaths, rescue);
        Self { machine, remembered: Vec::new(), said: Vec::new() }
    }

    fn outputs(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Remember(at) => self.remembered.push(at),
                Output::Say(text) => self.said.push(text),
                Output::Start { .. }
                | Output::Recover
                | Output::Pass(..)
                | Output::Kill
                | Output::End(_) => outputs.push(output),
            }
        }
        outputs
    }

    fn tell(&mut self, milliseconds: u64, input: Input) -> Vec<Output> {
        self.machine.handle_input(at(milliseconds), input);
        self.outputs()
    }

    /// A proxy that was asked for is there and ready.
    fn is_up(&mut self, milliseconds: u64) {
        assert_eq!(self.tell(milliseconds, Input::Started), []);
        assert_eq!(self.tell(milliseconds, Input::Ready), []);
    }

    /// The proxy dies; returns when the next one is started, and why it is careful.
    fn dies(&mut self, milliseconds: u64, exit: Exit) -> (u64, Option<String>) {
        assert_eq!(self.tell(milliseconds, Input::Ended(exit)), [Output::Recover]);
        let mut now = milliseconds;
        let mut outputs = self.tell(now, Input::Recovered(Recovery::Sound));
        if outputs.is_empty() {
            now = self.machine.poll_timeout().unwrap().as_nanos() / 1_000_000;
            self.machine.handle_timeout(at(now));
            outputs = self.outputs();
        }
        let [Output::Start { safe }] = outputs.as_slice() else { panic!("{outputs:?}") };
        (now - milliseconds, safe.clone())
    }
}

fn start() -> Output {
    Output::Start { safe: None }
}

fn ready() -> Driven {
    let mut warden = Driven::new(Begin::Fresh);
    assert_eq!(warden.outputs(), [start()]);
    warden.is_up(0);
    warden
}

#[test]
fn a_lost_proxy_is_replaced_later_each_time_and_at_last_by_a_careful_one() {
    let mut warden = ready();
    let mut now = 100;
    for delay in [0, 10, 100, 1_000] {
        assert_eq!(warden.dies(now, SEGV), (delay, None));
        now += delay;
        warden.is_up(now);
        now += 100;
    }
    let (delay, safe) = warden.dies(now, Exit::Code(4));
    assert_eq!(delay, 5_000);
    let why = "the proxy was lost 5 times and never lived 10 s; at last: exit 4";
    assert_eq!(safe.as_deref(), Some(why));
    assert_eq!(warden.remembered.len(), 5);
    // It lives, so all is well again.
    warden.is_up(now + delay);
    assert_eq!(warden.dies(now + delay + 10_000, SEGV), (0, None));
}

#[test]
fn a_kill_from_outside_does_not_count_and_does_not_make_the_warden_spin() {
    let mut warden = ready();
    let mut now = 500;
    for _ in 0..20 {
        assert_eq!(warden.dies(now, KILLED), (0, None));
        warden.is_up(now);
        now += 50;
    }
    assert_eq!(warden.remembered, []);
    let (delay, _) = warden.dies(now, KILLED);
    assert_eq!(warden.tell(now + delay, Input::Started), []);
    assert_eq!(warden.dies(now + 1, KILLED), (9, None));
    assert!(warden.said.iter().all(|text| text.contains("KILL")), "{:?}", warden.said);
}

#[test]
fn intents_are_taken_back_before_there_is_another_proxy() {
    let mut warden = ready();
    assert_eq!(warden.tell(100, Input::Ended(SEGV)), [Output::Recover]);
    assert_eq!(warden.machine.poll_timeout(), None);
    assert_eq!(warden.tell(100, Input::Recovered(Recovery::Sound)), [start()]);
}

#[test]
fn without_a_ledger_nothing_is_touched() {
    for (recovery, expected) in [
        (Recovery::Absent, "it kept no ledger"),
        (Recovery::Unusable("its head is damaged".to_owned()), "its head is damaged"),
    ] {
        let mut warden = ready();
        warden.tell(100, Input::Ended(KILLED));
        let lost = Ending::Lost { why: expected.to_owned() };
        assert_eq!(warden.tell(100, Input::Recovered(recovery)), [Output::End(lost)]);
        assert_eq!(warden.machine.poll_timeout(), None);
    }
}

#[test]
fn a_proxy_that_never_began_ends_the_start() {
    let failure = SpawnFailure { step: SpawnStep::Exec, errno: Errno::ENOENT };
    let mut warden = Driven::new(Begin::Fresh);
    warden.outputs();
    let end = Output::End(Ending::NotStarted(failure));
    assert_eq!(warden.tell(0, Input::NotStarted(failure)), [end]);

    let mut warden = Driven::new(Begin::Fresh);
    warden.outputs();
    warden.tell(0, Input::Started);
    let end = Output::End(Ending::Exit(3));
    assert_eq!(warden.tell(5, Input::Ended(Exit::Code(3))), [end]);
}

#[test]
fn a_first_proxy_that_is_killed_early_is_replaced_although_there_is_no_ledger_yet() {
    let mut warden = Driven::new(Begin::Fresh);
    warden.outputs();
    warden.tell(0, Input::Started);
    assert_eq!(warden.tell(50, Input::Ended(KILLED)), [Output::Recover]);
    assert_eq!(warden.tell(50, Input::Recovered(Recovery::Absent)), [start()]);
}

#[test]
fn a_later_proxy_that_cannot_be_started_is_tried_again() {
    let failure = SpawnFailure { step: SpawnStep::Clone, errno: Errno(11) };
    let mut warden = ready();
    warden.dies(100, SEGV);
    assert_eq!(warden.tell(100, Input::NotStarted(failure)), [Output::Recover]);
    warden.tell(100, Input::Recovered(Recovery::Sound));
    assert_eq!(warden.machine.poll_timeout(), Some(at(110)));
    // The end of its process is no news.
    assert_eq!(warden.tell(105, Input::Ended(Exit::Code(127))), []);
}

#[test]
fn the_end_that_was_asked_for_is_the_end() {
    for exit in [Exit::Code(7), Exit::Code(0), KILLED] {
        let mut warden = ready();
        assert_eq!(warden.tell(1, Input::Leaving(Ending::Exit(7))), []);
        assert_eq!(warden.tell(2, Input::Ended(exit)), [Output::End(Ending::Exit(7))]);
    }
    let other = Ending::Become { code: 0, arguments: vec![b"/bin/rescue".to_vec()] };
    let mut warden = ready();
    warden.tell(1, Input::Leaving(other.clone()));
    // It does not get there by itself.
    assert_eq!(warden.machine.poll_timeout(), Some(at(5_001)));
    warden.machine.handle_timeout(at(5_001));
    assert_eq!(warden.outputs(), [Output::Kill]);
    assert_eq!(warden.machine.poll_timeout(), None);
    assert_eq!(warden.tell(5_002, Input::Ended(KILLED)), [Output::End(other)]);
}

#[test]
fn a_proxy_that_cannot_go_on_by_what_is_left_is_the_last_one() {
    let mut warden = Driven::resumed(at(0), Begin::Lost, &[], None);
    warden.outputs();
    assert_eq!(warden.tell(0, Input::Recovered(Recovery::Sound)), [start()]);
    warden.tell(0, Input::Started);
    let why = "the journal is damaged".to_owned();
    assert_eq!(warden.tell(1, Input::Refused(why.clone())), []);
    let end = Output::End(Ending::Lost { why });
    assert_eq!(warden.tell(2, Input::Ended(Exit::Code(6))), [end]);
}

#[test]
fn signals_wait_for_a_proxy_that_can_take_them() {
    let mut warden = Driven::new(Begin::Fresh);
    warden.outputs();
    assert_eq!(warden.machine.poll_timeout(), None);
    warden.tell(0, Input::Signal(Signal::TERM, 1));
    warden.tell(0, Input::Started);
    warden.tell(1, Input::Signal(Signal::HUP, 2));
    warden.tell(1, Input::Signal(Signal::TERM, 1));
    let both = [Output::Pass(Signal::TERM, 2), Output::Pass(Signal::HUP, 2)];
    assert_eq!(warden.tell(2, Input::Ready), both);
    let one = [Output::Pass(Signal::INT, 1)];
    assert_eq!(warden.tell(3, Input::Signal(Signal::INT, 1)), one);
    // While there is none, too.
    warden.tell(4, Input::Ended(KILLED));
    warden.tell(4, Input::Signal(Signal::TERM, 1));
    warden.tell(4, Input::Recovered(Recovery::Sound));
    warden.machine.handle_timeout(at(10));
    warden.outputs();
    warden.tell(10, Input::Started);
    // And not for ever.
    assert_eq!(warden.machine.poll_timeout(), Some(at(10_010)));
    warden.machine.handle_timeout(at(10_010));
    assert_eq!(warden.outputs(), [Output::Pass(Signal::TERM, 1)]);
}

#[test]
fn a_warden_in_the_place_of_a_lost_one_goes_on_with_its_deaths() {
    let deaths = [at(1), at(2), at(3), at(4)];
    let mut warden = Driven::resumed(at(1_000), Begin::Alive, &deaths, None);
    assert_eq!(warden.outputs(), []);
    let (delay, safe) = warden.dies(1_001, SEGV);
    assert_eq!(delay, 5_000);
    assert!(safe.is_some());
    let mut warden = Driven::resumed(at(1_000), Begin::Lost, &deaths, None);
    assert_eq!(warden.outputs(), [Output::Recover]);
    assert_eq!(warden.tell(1_000, Input::Recovered(Recovery::Sound)), [start()]);
    // Long ago.
    let mut warden = Driven::resumed(at(20_000), Begin::Alive, &deaths, None);
    assert_eq!(warden.dies(20_001, SEGV), (0, None));
}

#[test]
fn process_1_becomes_its_rescue_program_when_nothing_helps() {
    let rescue = vec![b"/bin/sh".to_vec()];
    let deaths = [at(1), at(2), at(3), at(4), at(5)];
    let begin = || Driven::resumed(at(6), Begin::Alive, &deaths, Some(rescue.clone()));
    let end = Ending::Become { code: 4, arguments: rescue.clone() };
    assert_eq!(begin().tell(7, Input::Ended(SEGV)), [Output::End(end)]);
    assert_eq!(begin().tell(7, Input::Ended(KILLED)), [Output::Recover]);
}
