//! Commands of a plain connection, pipelined and one by one, beside a loop that only sends back
//! what it reads, and beside what daemonproxy's measurements were published to be.

use std::process::Child;
use std::time::Duration;

use keepd_model::Pid;

use crate::arguments::{Options, Part};
use crate::bench::progress;
use crate::error::{Attempt, BenchError};
use crate::processor::OneProcessor;
use crate::report::{Row, Target, Unit};
use crate::samples::Samples;
use crate::subject::{self, Client, Flavour, Place, Plain};

/// Commands of one measurement. In a quick run there are fewer.
const COMMANDS: usize = 200_000;
const COMMANDS_QUICK: usize = 20_000;
/// Round trips of each subject in a round.
const ROUND_TRIPS: usize = 500;
/// Services of the measurements with many.
const SERVICES: usize = 100;
/// How much more of each command than daemonproxy is asked for.
const TIMES_PUBLISHED: f64 = 1.5;
/// The rows of figures that were taken from elsewhere.
const PUBLISHED: &str = "daemonproxy, published";
const FLOOR: &str = "floor";

/// What is sent, and counted on its way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    Echo,
    ArgsOfOne,
    ArgsOfMany,
    Dump,
    RoundTrip,
    RoundTripOnOne,
}

impl Figure {
    const ALL: [Self; 6] = [
        Self::Echo,
        Self::ArgsOfOne,
        Self::ArgsOfMany,
        Self::Dump,
        Self::RoundTrip,
        Self::RoundTripOnOne,
    ];

    fn what(self) -> String {
        match self {
            Self::Echo => "`echo`, pipelined".into(),
            Self::ArgsOfOne => "`service.args` of one service, pipelined".into(),
            Self::ArgsOfMany => format!("`service.args` of {SERVICES} services, pipelined"),
            Self::Dump => format!("lines of `statedump` of {SERVICES} services"),
            Self::RoundTrip => "`echo`, there and back".into(),
            Self::RoundTripOnOne => "`echo`, there and back on one processor".into(),
        }
    }

    fn unit(self) -> Unit {
        match self {
            Self::RoundTrip | Self::RoundTripOnOne => Unit::Microseconds,
            Self::Echo | Self::ArgsOfOne | Self::ArgsOfMany | Self::Dump => Unit::PerSecond,
        }
    }

    /// Returns what was published of daemonproxy.
    fn published(self) -> Option<f64> {
        match self {
            Self::Echo => Some(826_000.0),
            Self::ArgsOfOne => Some(771_000.0),
            Self::RoundTrip => Some(15.0),
            Self::ArgsOfMany | Self::Dump | Self::RoundTripOnOne => None,
        }
    }

    fn target(self) -> Option<Target> {
        self.published().map(|published| match self.unit() {
            Unit::PerSecond => Target::AtLeast(TIMES_PUBLISHED * published),
            Unit::Microseconds
            | Unit::Milliseconds
            | Unit::Kibibytes
            | Unit::Switches
            | Unit::Percent
            | Unit::Starts => Target::Median(published),
        })
    }

    /// Returns commands, so many that the loop sends back as many lines as it reads.
    fn commands(self, count: usize) -> Vec<u8> {
        let args = |number: usize| {
            format!("service.args\t{}\t/usr/bin/program\t{number:06}\n", subject::name(number))
        };
        let line = |number: usize| match self {
            Self::Echo | Self::RoundTrip | Self::RoundTripOnOne => format!("echo\t{number:06}\n"),
            Self::ArgsOfOne => args(0),
            Self::ArgsOfMany => args(number % SERVICES),
            Self::Dump => "statedump\n".into(),
        };
        (0..count).map(line).collect::<String>().into_bytes()
    }
}

/// One who answers.
struct Subject {
    name: &'static str,
    pid: Pid,
    client: Client,
    /// Lines of a dump; none for who tells of no services.
    dump_lines: usize,
    samples: [Samples; Figure::ALL.len()],
}

/// Commands each subject in turn.
///
/// # Errors
/// A subject cannot be started, or does not answer.
pub fn measure(place: &mut Place, options: &Options) -> Result<Vec<Row>, BenchError> {
    let count = if options.quick { COMMANDS_QUICK } else { COMMANDS };
    let (mut floor, client) = echo_floor(place)?;
    let mut subjects = vec![Subject::new(FLOOR, subject::pid_of(&floor)?, client)];
    let mut proxies = Vec::new();
    for flavour in [Flavour::Proxy, Flavour::Init] {
        let proxy = Plain::start(place, flavour, 0, &[])?;
        let mut subject = Subject::new(flavour.name(), proxy.pid()?, proxy.connect()?);
        subject.make_services()?;
        subjects.push(subject);
        proxies.push(proxy);
    }
    for round in 1..=options.rounds {
        progress(&format!("protocol, round {round} of {}", options.rounds));
        for figure in Figure::ALL {
            for subject in &mut subjects {
                subject.measure(figure, count)?;
            }
        }
    }
    for proxy in proxies {
        proxy.abandon()?;
    }
    floor.kill().and_then(|()| floor.wait()).attempt("end the floor")?;
    Ok(rows(&subjects))
}

/// Starts the loop that sends back what it reads, on a socket as the proxy's.
fn echo_floor(place: &mut Place) -> Result<(Child, Client), BenchError> {
    let socket = place.folder()?.join("floor.sock");
    let mut command = place.command(place.program("keepd-bench-floor"));
    let child = command.arg("echo").arg(&socket).spawn().attempt("start the floor")?;
    let client = Client::connect(&socket)?;
    Ok((child, client))
}

impl Subject {
    fn new(name: &'static str, pid: Pid, client: Client) -> Self {
        Self { name, pid, client, dump_lines: 0, samples: Default::default() }
    }

    /// Makes the services, which never run, and counts the lines of a dump.
    fn make_services(&mut self) -> Result<(), BenchError> {
        let commands = Figure::ArgsOfMany.commands(SERVICES);
        let is_args = |line: &[u8]| line.starts_with(b"service.args\t");
        self.client.exchange(&commands, SERVICES, is_args)?;
        let mut answer = self.client.collect(b"statedump\necho\tend\n", b"end\n")?;
        answer.truncate(answer.len() - b"end\n".len());
        self.dump_lines = answer.iter().filter(|byte| **byte == b'\n').count();
        Ok(())
    }

    fn measure(&mut self, figure: Figure, count: usize) -> Result<(), BenchError> {
        let samples = &mut self.samples[figure as usize];
        let (commands, lines) = match figure {
            Figure::RoundTrip => return self.client.round_trips(ROUND_TRIPS, samples),
            Figure::RoundTripOnOne => {
                let shared = OneProcessor::share_with(self.pid)?;
                let outcome = self.client.round_trips(ROUND_TRIPS, samples);
                return shared.give_back().and(outcome);
            }
            Figure::Dump if self.dump_lines == 0 => return Ok(()),
            Figure::Dump => {
                let dumps = count.div_ceil(self.dump_lines);
                (figure.commands(dumps), dumps * self.dump_lines)
            }
            Figure::Echo | Figure::ArgsOfOne | Figure::ArgsOfMany => {
                (figure.commands(count), count)
            }
        };
        let elapsed: Duration = self.client.exchange(&commands, lines, |_| true)?;
        samples.push(lines as f64 / elapsed.as_secs_f64());
        Ok(())
    }
}

fn rows(subjects: &[Subject]) -> Vec<Row> {
    let mut rows = Vec::new();
    for figure in Figure::ALL {
        let row = |name: &str, samples: Samples, floor, target| Row {
            part: Part::Protocol,
            what: figure.what(),
            subject: name.to_owned(),
            unit: figure.unit(),
            samples,
            floor,
            target,
        };
        let samples_of = |subject: &Subject| subject.samples[figure as usize].clone();
        let floor = subjects.first().and_then(|subject| samples_of(subject).median());
        for subject in subjects {
            let target = figure.target().filter(|_| subject.name != FLOOR);
            let samples = samples_of(subject);
            if samples.count() > 0 {
                rows.push(row(subject.name, samples, floor, target));
            }
        }
        // They are from another machine, so they are no multiple of this floor.
        let published = figure.published().map(|value| Samples::from_iter([value]));
        rows.extend(published.map(|samples| row(PUBLISHED, samples, None, None)));
    }
    rows
}
