//! `keepd-sim`: plays many seeds, or one with its whole trace. It counts the faults that happened
//! and says how fast it was.
//!
//! It contains no simulation: that is the library, [`keepd_sim::run`].

mod losses;

use std::process::ExitCode;
use std::time::Instant;

use keepd_sim::{ACTIONS_DEFAULT, Faults};

const USAGE: &str = "usage: keepd-sim [--seed N | --seeds N [--first N] [--all]] [--steps N]
       keepd-sim --crash-points [--quick] [--all] [--story N] [--pace lazy|eager|slow]
                 [--kill warden|proxy|manager@N]... [--tell]
       keepd-sim --walks [--seeds N] [--first N] [--acts N] [--all] [--seed N]

Plays keepd in a simulated world and checks its invariants after every event.

  --seed N    play one seed and print its trace
  --seeds N   play so many seeds (200)
  --first N   begin with this seed (1)
  --all       go on after a failure, and say one line of each
  --steps N   random actions of each run (400)

With --crash-points, SIGKILL before every effect of every story, and before every one after that:

  --quick     only some of them
  --story N   only this story, from 0
  --pace P    only so slow children
  --kill R@N  only this: play it and print its trace
  --tell      play the story without a loss and print its trace

With --walks, random stories, and SIGKILL to warden, proxy and manager at random:

  --seeds N   play so many (1000)
  --first N   begin with this seed (1)
  --acts N    things that are asked for in each (60)
  --seed N    play one and print its trace
";

/// What was asked for.
struct Options {
    seed: Option<u64>,
    seeds: u64,
    first: u64,
    all: bool,
    actions: u32,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|word| word == "--help" || word == "-h") {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let played = match arguments.split_first() {
        Some((word, rest)) if word == "--crash-points" => {
            losses::parse(rest).map(|options| losses::run(&options))
        }
        Some((word, rest)) if word == "--walks" => {
            losses::parse_walks(rest).map(|walks| losses::run_walks(&walks))
        }
        Some(_) | None => parse(&arguments).map(|options| play(&options)),
    };
    played.unwrap_or_else(|why| {
        eprint!("cannot read the arguments: {why}\n{USAGE}");
        ExitCode::from(100)
    })
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut options =
        Options { seed: None, seeds: 200, first: 1, all: false, actions: ACTIONS_DEFAULT };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--all" {
            options.all = true;
            continue;
        }
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word.as_str(), words.next().map(String::as_str)),
        };
        let number = || -> Result<u64, String> {
            let value = value.ok_or_else(|| format!("\"{key}\" needs a number"))?;
            let parsed = value.parse();
            parsed.map_err(|_| format!("\"{value}\" is no number"))
        };
        match key {
            "--seed" => options.seed = Some(number()?),
            "--seeds" => options.seeds = number()?,
            "--first" => options.first = number()?,
            "--steps" => {
                options.actions =
                    u32::try_from(number()?).map_err(|_| "too many steps".to_owned())?;
            }
            _ => return Err(format!("unknown option \"{key}\"")),
        }
    }
    Ok(options)
}

fn play(options: &Options) -> ExitCode {
    let actions = options.actions;
    if let Some(seed) = options.seed {
        return match keepd_sim::print(seed, actions) {
            Ok(report) => {
                println!("seed {seed}: {} events, every invariant held", report.events);
                ExitCode::SUCCESS
            }
            Err(failure) => {
                println!("{failure}");
                ExitCode::FAILURE
            }
        };
    }
    let begun = Instant::now();
    let (mut events, mut faults, mut virtual_time) = (0, Faults::default(), 0.0);
    let mut failures = 0;
    for seed in options.first..options.first.saturating_add(options.seeds) {
        match keepd_sim::run(seed, actions) {
            Ok(report) => {
                events += report.events;
                virtual_time += report.lasted.as_secs_f64();
                faults.add(&report.faults);
            }
            Err(failure) if options.all => {
                failures += 1;
                let broken = &failure.broken;
                println!("seed {seed}: {}: {}", broken.number, broken.sentence);
            }
            Err(failure) => {
                // The same run once more, with a trace.
                let told = keepd_sim::explain(seed, actions).err().unwrap_or(failure);
                println!("{told}");
                return ExitCode::FAILURE;
            }
        }
    }
    for (kind, count) in faults.iter() {
        println!("{count:>10} {kind}");
    }
    let seconds = begun.elapsed().as_secs_f64().max(0.001);
    let (seeds, rate) = (options.seeds, events as f64 / seconds);
    let hours = virtual_time / 3_600.0;
    println!("{seeds} seeds, {events} events, {hours:.1} h of virtual time");
    println!("{rate:.0} events a second, {seconds:.1} s");
    if failures > 0 {
        println!("{failures} seeds broke an invariant");
        return ExitCode::FAILURE;
    }
    println!("every invariant held");
    ExitCode::SUCCESS
}
