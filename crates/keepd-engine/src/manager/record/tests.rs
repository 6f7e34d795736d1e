//! What is written down is read again.

use std::collections::BTreeMap;

use keepd_model::{ChangeId, Errno, Exit, ExitCode, Pid, Reason, Signal, SpawnStep, Until};

use super::*;
use crate::manager::cause::ShutdownCause;
use crate::manager::interface::{
    Change, Goal, Outcome, PastRun, PrepareFailure, Target, Verb, Who,
};

fn causes() -> Vec<Cause> {
    let failure = PrepareFailure {
        step: SpawnStep::Exec,
        errno: Some(Errno::ENOENT),
        text: "executable \"a\tb%\" not found".to_owned(),
    };
    let exit = Exit::Signal { signal: Signal::KILL, core: true };
    let ran = Duration::from_millis(5);
    let on = ServiceName::new("db").unwrap();
    vec![
        Cause::Boot,
        Cause::NotEnabled,
        Cause::Operator { verb: Verb::Restart, change: ChangeId(7) },
        Cause::Applied { change: ChangeId(1), keys: vec!["command".into(), "env.A".into()] },
        Cause::Dependency { on: on.clone(), until: Until::Ready },
        Cause::DependencyLost { on: on.clone(), until: Until::Started },
        Cause::Order { on: on.clone() },
        Cause::Gathered,
        Cause::Quarantined("keepd.toml:3:1: cannot".into()),
        Cause::Limit { count: 3, window: ran },
        Cause::DependenciesMet,
        Cause::BecameReady,
        Cause::StayedUp,
        Cause::Executed,
        Cause::Ended { generation: Generation::new(3), pid: Pid::new(9), exit, ran },
        Cause::CannotExecute(failure),
        Cause::ReadyTimeout { after: ran, missing: "x, y".into() },
        Cause::RestartPolicy,
        Cause::NotEmpty,
        Cause::Shutdown(ShutdownCause::Idle),
        Cause::Shutdown(ShutdownCause::Signal(Signal::INT)),
        Cause::Shutdown(ShutdownCause::Service(on)),
        Cause::Shutdown(ShutdownCause::Operator(ChangeId(4))),
        Cause::Foreign,
        Cause::Cancelled,
        Cause::Unsure,
        Cause::SafeMode("it died five times".into()),
    ]
}

fn some_names(count: usize) -> Vec<ServiceName> {
    ["db", "cache"][..count].iter().map(|name| ServiceName::new(name).unwrap()).collect()
}

#[test]
fn records_round_trip_with_every_cause_and_phase() {
    let phases = [
        RecordedPhase::Resting(Rest::Stopped),
        RecordedPhase::Resting(Rest::Done),
        RecordedPhase::Resting(Rest::Failed),
        RecordedPhase::Begun,
        RecordedPhase::Started,
        RecordedPhase::Gathered,
        RecordedPhase::Ready(Instant::from_nanos(8)),
        RecordedPhase::Ending(EndWhy::Unwanted, None),
        RecordedPhase::Ending(EndWhy::Restart, Some(Instant::from_nanos(8))),
        RecordedPhase::Ending(EndWhy::ByItself, None),
        RecordedPhase::Ending(EndWhy::Dependency, None),
        RecordedPhase::Ending(EndWhy::ReadyTimeout { missing: "m\tn".into() }, None),
        RecordedPhase::Backoff(Instant::from_nanos(u64::MAX)),
    ];
    for (index, cause) in causes().into_iter().enumerate() {
        let phase = phases[index % phases.len()].clone();
        let record = Record {
            want: [Want::Up, Want::Down(Manner::Polite), Want::Down(Manner::Kill)][index % 3],
            want_cause: cause.clone(),
            phase,
            cause: cause.clone(),
            since: Instant::from_nanos(5),
            generation: Generation::new(4),
            end_count: 2,
            restart_times: vec![Instant::from_nanos(3); index % 3],
            restarts: 11,
            ready_after: Some(Duration::from_nanos(17)),
            started: Some(Instant::from_nanos(5)),
            last_end: Some(LastEnd {
                generation: Generation::new(3),
                pid: None,
                at: Instant::from_nanos(2),
                exit: Some(Exit::Code(1)),
                reason: Reason::Exit,
                ran: Duration::from_nanos(1),
                failure: Some("why, oh why".into()),
            }),
            launched: Some(u64::MAX),
            kept: None,
            enabled: Some(index % 2 == 0),
            needs: some_names(index % 3),
            held: some_names(index % 2),
            needs_new_start: index % 2 == 1,
            start_cause: (index % 2 == 1).then_some(cause),
        };
        assert_eq!(Record::decode(&record.encode()), Some(record));
    }
}

#[test]
fn changes_round_trip() {
    let name = ServiceName::new("web").unwrap();
    let goal = |target, outcome| Goal { name: name.clone(), target, along: true, outcome };
    let change = Change {
        id: ChangeId(3),
        verb: Verb::Restart,
        who: Some(Who { uid: 0, pid: 77 }),
        token: Some("abc".into()),
        opened: Instant::from_nanos(1),
        closed: None,
        goals: vec![
            goal(Target::UpAfter(Generation::new(2)), None),
            goal(Target::Gone, Some(Outcome::Reached(Duration::from_nanos(4)))),
            goal(Target::Down, Some(Outcome::Missed("it is stuck, badly".into()))),
            goal(Target::Up, None),
            goal(Target::Reloaded, None),
        ],
    };
    let note = |part| (change_key(change.id, part), encode_change(&change, part));
    let notes = BTreeMap::from([note(0)]);
    assert_eq!(decode_changes(&notes), [change]);
}

#[test]
fn a_note_that_cannot_be_read_counts_as_absent() {
    for bad in [&b""[..], b"phase", b"phase=%zz", b"\xff", b"phase=ready", b"phase=ending\twhy=x"] {
        assert_eq!(Record::decode(bad), None);
    }
}

#[test]
fn a_large_change_is_spread_and_is_absent_if_a_part_is() {
    let goals = (0..1_000).map(|number| Goal {
        name: ServiceName::new(&format!("s{number}")).unwrap(),
        target: Target::Up,
        along: false,
        outcome: (number % 7 == 0).then_some(Outcome::Reached(Duration::from_nanos(number))),
    });
    let change = Change {
        id: ChangeId(12),
        verb: Verb::Boot,
        who: None,
        token: None,
        opened: Instant::from_nanos(1),
        closed: None,
        goals: goals.collect(),
    };
    let parts = change_parts(&change);
    let note = |part| (change_key(change.id, part), encode_change(&change, part));
    let mut notes: BTreeMap<String, Vec<u8>> = (0..parts).map(note).collect();
    assert_eq!(notes.len(), 63);
    assert_eq!(part_of_goal(&change, 999), 62);
    assert_eq!(decode_changes(&notes), std::slice::from_ref(&change));
    notes.remove("change.12.40");
    assert_eq!(decode_changes(&notes), []);
}

#[test]
fn past_runs_round_trip() {
    let run = PastRun {
        cause: Cause::Operator { verb: Verb::Start, change: ChangeId(1) },
        ready_after: Some(Duration::from_millis(20)),
        end: LastEnd {
            generation: Generation::new(3),
            pid: Pid::new(9),
            at: Instant::from_nanos(2),
            exit: Some(Exit::Code(1)),
            reason: Reason::Exit,
            ran: Duration::from_nanos(1),
            failure: None,
        },
    };
    assert_eq!(decode_past_run(&encode_past_run(&run)), Some(run));
}

#[test]
fn a_shutdown_round_trips_with_its_stage() {
    for stage in [RecordedStage::Polite, RecordedStage::Killing] {
        let cause = ShutdownCause::Signal(Signal::TERM);
        let (code, deadline) = (ExitCode::Service(7), Instant::from_nanos(1_000));
        let record = ShutdownRecord { cause, code, stage, deadline };
        assert_eq!(decode_shutdown(&encode_shutdown(&record)), Some(record));
    }
}

#[test]
fn a_shutdown_noted_by_an_earlier_version_is_polite() {
    let cause = ShutdownCause::Idle;
    let (code, deadline) = (ExitCode::Done, Instant::from_nanos(1_000));
    let record = ShutdownRecord { cause, code, stage: RecordedStage::Polite, deadline };
    let note = String::from_utf8(encode_shutdown(&record)).unwrap();
    let earlier = note.replace("\tstage=polite", "");
    assert_ne!(earlier, note);
    assert_eq!(decode_shutdown(earlier.as_bytes()), Some(record));
}
