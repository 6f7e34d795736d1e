//! `cargo xtask torture`: rounds of kills until there were enough of them, and a table.

use std::io::{self, Write};
use std::process::ExitCode;

use super::{Order, Pairs, Table, Victim, Walk, Walked, guard, tracer};

/// The text of `--help`.
const USAGE: &str = "\
usage: cargo xtask torture [OPTIONS]

Kills keepd's own processes again and again while services start, end and write,
and judges by what the services wrote down themselves.

  --kills N          how often somebody is killed (1000)
  --seed S           the seed of the first round; the next one has S + 1
  --only A,B         kill only these: warden, proxy, manager
  --pairs WORD       who is killed at once with another one: none, one (the
                     manager with one of the others), any (any)
  --services N       services in each round (64)
  --every-call       instead of that: kill at every system call in turn, while
                     services are started, reaped, stopped and adopted; not
                     where warden and proxy are both lost with `--pairs one`
  --walk WORDS       only walks with these words in their name
";

/// Kills of a round: enough that logs and journals grow, few enough that a finding can be read.
const KILLS_PER_ROUND: usize = 250;
/// After so many kills a line of progress is written.
const PROGRESS: usize = 50;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Options {
    kills: usize,
    seed: u64,
    victims: Vec<Victim>,
    pairs: Pairs,
    services: usize,
    every_call: bool,
    walk: String,
}

impl Options {
    fn parse(arguments: &[String], seed: u64) -> Result<Self, String> {
        let mut options = Self {
            kills: 1_000,
            seed,
            victims: Victim::ALL.to_vec(),
            pairs: Pairs::Any,
            services: 64,
            every_call: false,
            walk: String::new(),
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            if word == "--every-call" {
                options.every_call = true;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("option \"{word}\" needs a value"))?;
            let refused = || format!("cannot use \"{value}\" for option \"{word}\"");
            match word.as_str() {
                "--kills" => options.kills = value.parse().map_err(|_| refused())?,
                "--seed" => options.seed = value.parse().map_err(|_| refused())?,
                "--services" => options.services = value.parse().map_err(|_| refused())?,
                "--walk" => options.walk.clone_from(value),
                "--only" => {
                    let victims: Option<_> = value.split(',').map(Victim::parse).collect();
                    options.victims = victims.ok_or_else(refused)?;
                }
                "--pairs" => {
                    options.pairs = match value.as_str() {
                        "none" => Pairs::None,
                        "one" => Pairs::One,
                        "any" => Pairs::Any,
                        _ => return Err(refused()),
                    }
                }
                _ => return Err(format!("cannot take argument \"{word}\"")),
            }
        }
        Ok(options)
    }
}

/// Runs the command with the arguments of this process: exit status 1 if a promise was broken.
pub fn run() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == tracer::TRACER) {
        return tracer::run(&arguments[1..]);
    }
    if arguments.first().is_some_and(|word| word == guard::GUARD) {
        return guard::run(&arguments[1..]);
    }
    if arguments.iter().any(|word| word == "--help" || word == "-h") {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    // Any number will do, as long as it is said.
    let seed = keepd_os::clock::monotonic_now().as_nanos() % 1_000_000_000;
    match Options::parse(&arguments, seed) {
        Ok(options) if options.every_call => every_call(&options),
        Ok(options) => torture(&options),
        Err(why) => {
            eprint!("cargo xtask torture: {why}\n{USAGE}");
            ExitCode::from(100)
        }
    }
}

fn torture(options: &Options) -> ExitCode {
    println!("seed {}", options.seed);
    let mut table = Table::default();
    let mut is_good = true;
    let (mut left, mut seed) = (options.kills, options.seed);
    while left > 0 {
        let kills = left.min(KILLS_PER_ROUND);
        let order = Order {
            seed,
            kills,
            services: options.services,
            victims: options.victims.clone(),
            pairs: options.pairs,
        };
        let before = options.kills - left;
        let round = order.run(|number| {
            if (before + number).is_multiple_of(PROGRESS) {
                println!("{} of {} kills", before + number, options.kills);
                // Nobody waits for this line; it is for whoever looks.
                let _ = io::stdout().flush();
            }
        });
        for finding in &round.findings {
            is_good = false;
            println!("BROKEN (seed {seed}): {finding}");
        }
        if let Some(evidence) = &round.evidence {
            println!("evidence (seed {seed}): {}", evidence.display());
        }
        table.add(&round);
        left -= kills;
        seed = seed.wrapping_add(1);
    }
    print!("\n{table}");
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn every_call(options: &Options) -> ExitCode {
    let own = std::env::current_exe().expect("a program knows its own path");
    if let Err(why) = tracer::check(&own) {
        println!("SKIPPED: kills at every system call: {why}");
        return ExitCode::SUCCESS;
    }
    let doubles = match options.pairs {
        Pairs::Any => &Walk::DOUBLE_FAULTS[..],
        Pairs::None | Pairs::One => &[],
    };
    let mut table = String::from("| walk | system calls | kills | promises broken |\n");
    table += "| --- | --: | --: | --: |\n";
    let mut is_good = true;
    for walk in Walk::ALL.iter().chain(doubles) {
        if !walk.to_string().contains(&options.walk) {
            continue;
        }
        println!("{walk}");
        let walked = walk.take(&own, 1, 1, |call| {
            if call.is_multiple_of(PROGRESS as u64) {
                println!("{walk}: {call} system calls");
                // Nobody waits for this line; it is for whoever looks.
                let _ = io::stdout().flush();
            }
        });
        for finding in &walked.findings {
            is_good = false;
            println!("BROKEN ({walk}): {finding}");
        }
        if let Some(evidence) = &walked.evidence {
            println!("evidence ({walk}): {}", evidence.display());
        }
        let Walked { calls, killed, findings, .. } = walked;
        table += &format!("| {walk} | {calls} | {killed} | {} |\n", findings.len());
    }
    print!("\n{table}");
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words, 5)
    }

    #[test]
    fn what_was_said_replaces_what_is_usual() {
        let usual = parse("").unwrap();
        assert_eq!((usual.kills, usual.seed, usual.services), (1_000, 5, 64));
        let options = parse("--kills 7 --seed 9 --only proxy,manager --pairs none").unwrap();
        assert_eq!((options.kills, options.seed), (7, 9));
        assert_eq!(options.victims, [Victim::Proxy, Victim::Manager]);
        assert_eq!(options.pairs, Pairs::None);
    }

    #[test]
    fn what_cannot_be_taken_is_named() {
        let refusals = [
            ("--kills", "option \"--kills\" needs a value"),
            ("--kills many", "cannot use \"many\" for option \"--kills\""),
            ("--only init", "cannot use \"init\" for option \"--only\""),
            ("--fast now", "cannot take argument \"--fast\""),
        ];
        for (words, refusal) in refusals {
            assert_eq!(parse(words), Err(refusal.to_owned()));
        }
    }
}
