//! The six fatal signals, sent and caused, and panics. Each case is a process of its own, told by
//! its argument what to do; so this program has no test threads.

mod support;

use std::borrow::Cow;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use keepd_model::{Errno, Signal};
use keepd_os::exec::{Program, exec};
use keepd_os::fatal::{FatalSignals, Rescue, SIGNALS, install, set_last_words, set_rescue};
use keepd_os::panic::end_at_panic;
use keepd_os::process::{self, DescriptorLimit};
use keepd_os::signals::{self, SignalReader};
use support::await_readable;

const STATUS: u8 = 4;
const SHOW: &str = "echo $SAME $WHY; ulimit -Sn; sed -n '/^Sig[PBIC]/p' /proc/self/status; exit 9";
const CLEAN: &str = "SigPnd:\t0000000000000000\nSigBlk:\t0000000000000000\n\
                     SigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\n";

fn main() {
    match std::env::args().nth(1).as_deref() {
        None => all(),
        Some("sent") => sent(),
        Some("overflow") => {
            prepare();
            let depth = overflow(1);
            unreachable!("{depth}");
        }
        Some("abort") => {
            prepare();
            std::process::abort();
        }
        Some("thread") => {
            prepare();
            let thread = std::thread::spawn(|| overflow(1));
            unreachable!("{:?}", thread.join());
        }
        Some("replaced") => {
            prepare();
            set_rescue(Some(rescue("echo replaced")));
            std::process::abort();
        }
        Some("unrescued") => {
            prepare();
            set_rescue(None);
            std::process::abort();
        }
        Some("missing") => {
            prepare();
            set_rescue(Some(rescue_by(&["/no/such/program"])));
            std::process::abort();
        }
        Some("panic") => {
            prepare();
            end_at_panic("over: ", STATUS);
            panic!("once\n{}", "twice");
        }
        Some("panic in a thread") => {
            prepare();
            end_at_panic("over: ", STATUS);
            let thread = std::thread::spawn(|| -> u8 { panic!("at last {}", "x".repeat(10_000)) });
            unreachable!("{:?}", thread.join());
        }
        Some("unrescued panic") => {
            end_at_panic("over: ", STATUS);
            std::panic::panic_any(7);
        }
        Some("exec") => become_another(),
        // An argument of the test runner.
        Some(_) => all(),
    }
}

/// What must be true of a process that has ended.
type Check = fn(&Output);

fn all() {
    let cases: [(&str, Check); 11] = [
        ("sent", |output| assert_eq!(output.status.code(), Some(0))),
        ("overflow", |output| assert_rescued(output, "SEGV")),
        ("thread", |output| assert_rescued(output, "SEGV")),
        ("abort", |output| assert_rescued(output, "ABRT")),
        ("replaced", |output| {
            assert_eq!(output.stdout, b"replaced\n");
            assert_eq!(output.status.code(), Some(0));
        }),
        ("unrescued", |output| {
            assert_eq!(output.stderr, b"fault: ABRT\n");
            assert_eq!(output.status.code(), Some(STATUS.into()));
        }),
        ("missing", |output| assert_eq!(output.status.code(), Some(STATUS.into()))),
        ("panic", |output| {
            assert_rescued_from_panic(output, |text| text.ends_with(": once twice"));
        }),
        ("panic in a thread", |output| {
            assert_rescued_from_panic(output, |text| text.len() == 480 && text.ends_with("xxx"));
        }),
        ("unrescued panic", |output| {
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(text.starts_with("over: panicked at ") && text.ends_with(": no message\n"));
            assert_eq!(output.status.code(), Some(STATUS.into()));
        }),
        ("exec", |output| {
            assert_eq!(String::from_utf8_lossy(&output.stdout), format!("same why\n17\n{CLEAN}"));
            assert_eq!(output.status.code(), Some(9));
        }),
    ];
    for (case, check) in cases {
        let output = Command::new(std::env::current_exe().unwrap()).arg(case).output().unwrap();
        let (out, err) = (&output.stdout, &output.stderr);
        println!(
            "{case}: {} (signal {:?})\n{}{}",
            output.status,
            output.status.signal(),
            String::from_utf8_lossy(out),
            String::from_utf8_lossy(err)
        );
        check(&output);
    }
    a_failed_exec_changes_nothing();
    println!("ok");
}

fn assert_rescued(output: &Output, signal: &str) {
    let expected = format!("same {signal}\n17\n{CLEAN}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert_eq!(String::from_utf8_lossy(&output.stderr), format!("fault: {signal}\n"));
    assert_eq!(output.status.code(), Some(9));
}

/// One line says it, and the rescue is told the same.
fn assert_rescued_from_panic(output: &Output, is_expected: fn(&str) -> bool) {
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.strip_prefix("over: ").and_then(|text| text.strip_suffix('\n')).unwrap();
    assert!(text.starts_with("panicked at crates/keepd-os/tests/fatal.rs:"), "{text}");
    assert!(is_expected(text) && !text.contains('\n'), "{text}");
    let expected = format!("same {text}\n17\n{CLEAN}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert_eq!(output.status.code(), Some(9));
}

fn name(signal: Signal) -> &'static str {
    signal.name().unwrap()
}

fn rescue(script: &str) -> Rescue {
    rescue_by(&["sh", "-c", script])
}

fn rescue_by(arguments: &[&str]) -> Rescue {
    let arguments: Vec<_> = arguments.iter().map(|word| word.as_bytes().to_vec()).collect();
    let program = Program {
        file: None,
        arguments: &arguments,
        environment: &environment(),
        descriptor_limit: Some(DescriptorLimit { soft: 17, hard: 1_000 }),
    };
    Rescue::new(&program, "WHY", |signal| name(signal).to_owned()).unwrap()
}

fn environment() -> Vec<Cow<'static, [u8]>> {
    vec![b"PATH=/nowhere:/usr/bin:/bin".into(), b"SAME=same".into()]
}

/// Makes everything that a program must not inherit, and a rescue.
fn prepare() -> FatalSignals {
    let found = install(STATUS).unwrap();
    assert_eq!(install(STATUS).unwrap_err(), Errno(libc::EBUSY));
    set_rescue(Some(rescue(SHOW)));
    set_last_words(|signal| format!("fault: {}\n", name(signal)).into_bytes());
    make_dirty();
    found
}

/// Ignores, blocks and leaves pending.
fn make_dirty() {
    signals::ignore(Signal::USR1).unwrap();
    signals::block(&[Signal::TERM, Signal::USR2]).unwrap();
    signals::send(process::id(), Signal::TERM).unwrap();
}

/// Uses its stack up. What lies on it is looked at after the inner call, so that no compiler makes
/// a loop of it.
fn overflow(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 64]);
    let inner = if depth == 0 { 0 } else { overflow(depth + 1) };
    std::hint::black_box(&room);
    inner
}

fn sent() {
    let found = prepare();
    fatal_are_pending(&found);
    // The loop goes on and hears of the next one.
    fatal_are_pending(&found);
}

fn fatal_are_pending(found: &FatalSignals) {
    assert_eq!(found.take_pending(), None);
    for signal in SIGNALS {
        signals::send(process::id(), signal).unwrap();
        signals::send(process::id(), signal).unwrap();
    }
    await_readable(found);
    let taken: Vec<_> = std::iter::from_fn(|| found.take_pending()).collect();
    assert_eq!(taken, SIGNALS);
}

fn program<'a>(arguments: &'a [Vec<u8>], environment: &'a [Cow<'a, [u8]>]) -> Program<'a> {
    let descriptor_limit = Some(DescriptorLimit { soft: 17, hard: 1_000 });
    Program { file: None, arguments, environment, descriptor_limit }
}

fn become_another() {
    prepare();
    let arguments = [b"sh".to_vec(), b"-c".to_vec(), SHOW.into()];
    let mut environment = environment();
    environment.push(b"WHY=why".into());
    unreachable!("{}", exec(&program(&arguments, &environment)));
}

fn a_failed_exec_changes_nothing() {
    make_dirty();
    let reader = SignalReader::new(&[Signal::TERM]).unwrap();
    let lines = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let lines = status.lines().filter(|line| line.starts_with("Sig"));
        lines.chain(status.lines().filter(|line| line.starts_with("ShdPnd"))).collect::<String>()
    };
    let limits = || std::fs::read_to_string("/proc/self/limits").unwrap();
    let before = (lines(), limits());
    let environment = environment();
    let missing = [b"no-such-program".to_vec()];
    let keeping_limit = Program { descriptor_limit: None, ..program(&missing, &environment) };
    assert_eq!(exec(&keeping_limit), Errno::ENOENT);
    assert_eq!((lines(), limits()), before);
    // What was pending is not lost.
    assert_eq!(reader.read().unwrap(), [(Signal::TERM, 1)]);
    let empty = [Vec::new()];
    assert_eq!(exec(&program(&empty, &environment)), Errno::ENOENT);
    let with_nul = [b"sh\0".to_vec()];
    assert_eq!(exec(&program(&with_nul, &environment)), Errno::EINVAL);
}
