//! `keepd-sim --crash-points`: a SIGKILL before every effect of every story.

use std::process::ExitCode;
use std::time::Instant;

use keepd_sim::recovery::{
    Breach, Depth, Kill, Loss, Outcome, Pace, Role, Tale, Telling, crash_points, play, story_names,
    walk, walk_of,
};

/// Things that are asked for in a walk unless told otherwise.
const ACTS_DEFAULT: u32 = 60;

/// What was asked for with `--walks`.
#[derive(Debug)]
pub(crate) struct Walks {
    seed: Option<u64>,
    seeds: u64,
    first: u64,
    acts: u32,
    goes_on: bool,
}

/// Reads the words after `--walks`.
pub(crate) fn parse_walks(words: &[String]) -> Result<Walks, String> {
    let mut walks =
        Walks { seed: None, seeds: 1_000, first: 1, acts: ACTS_DEFAULT, goes_on: false };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--all" {
            walks.goes_on = true;
            continue;
        }
        let number = words.next().and_then(|text| text.parse::<u64>().ok());
        let number = number.ok_or_else(|| format!("\"{word}\" needs a number"))?;
        match word.as_str() {
            "--seed" => walks.seed = Some(number),
            "--seeds" => walks.seeds = number,
            "--first" => walks.first = number,
            "--acts" => {
                walks.acts = u32::try_from(number).map_err(|_| "too many acts".to_owned())?;
            }
            _ => return Err(format!("unknown option \"{word}\"")),
        }
    }
    Ok(walks)
}

/// Plays random stories with random losses.
pub(crate) fn run_walks(walks: &Walks) -> ExitCode {
    if let Some(seed) = walks.seed {
        return say(play(&walk_of(seed, walks.acts, None), Telling::All));
    }
    let begun = Instant::now();
    let (mut total, mut breaches) = (Outcome::default(), 0);
    for seed in walks.first..walks.first.saturating_add(walks.seeds) {
        match walk(seed, walks.acts, None) {
            Ok(outcome) => total.add(&outcome),
            Err(breach) => {
                breaches += 1;
                tell(&breach, walks.goes_on);
                if !walks.goes_on {
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    sum_up(walks.seeds, "walks", &total, begun, breaches)
}

/// What was asked for with `--crash-points`.
#[derive(Debug, Default)]
pub(crate) struct Options {
    story: Option<usize>,
    pace: Option<Pace>,
    kills: Vec<Kill>,
    goes_on: bool,
    is_quick: bool,
    is_told: bool,
}

/// Reads the words after `--crash-points`.
pub(crate) fn parse(words: &[String]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("\"{word}\" needs a value"));
        match word.as_str() {
            "--all" => options.goes_on = true,
            "--quick" => options.is_quick = true,
            "--tell" => options.is_told = true,
            "--story" => {
                let number = value()?;
                let parsed = number.parse().ok().filter(|index| *index < story_names().len());
                options.story = Some(parsed.ok_or_else(|| format!("no story \"{number}\""))?);
            }
            "--pace" => {
                let name = value()?;
                let known = Pace::ALL.into_iter().find(|pace| pace_name(*pace) == name);
                options.pace = Some(known.ok_or_else(|| format!("no pace \"{name}\""))?);
            }
            "--kill" => options.kills.push(parse_kill(value()?)?),
            _ => return Err(format!("unknown option \"{word}\"")),
        }
    }
    Ok(options)
}

/// `proxy@17`.
fn parse_kill(text: &str) -> Result<Kill, String> {
    let wrong = || format!("\"{text}\" is not like \"proxy@17\"");
    let (whom, at) = text.split_once('@').ok_or_else(wrong)?;
    let whom = Role::ALL.into_iter().find(|role| role_name(*role) == whom).ok_or_else(wrong)?;
    Ok(Kill { at: at.parse().map_err(|_| wrong())?, whom })
}

const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Warden => "warden",
        Role::Proxy => "proxy",
        Role::Manager => "manager",
    }
}

const fn pace_name(pace: Pace) -> &'static str {
    match pace {
        Pace::Lazy => "lazy",
        Pace::Eager => "eager",
        Pace::Slow => "slow",
        Pace::Walk { .. } => "walk",
    }
}

/// Plays one loss, or all of them.
pub(crate) fn run(options: &Options) -> ExitCode {
    if !options.kills.is_empty() || options.is_told {
        return play_one(options);
    }
    let depth = if options.is_quick { Depth::TESTS } else { Depth::ALL };
    let begun = Instant::now();
    let (mut runs, mut total, mut breaches) = (0, Outcome::default(), 0);
    let stories = match options.story {
        Some(story) => story..story + 1,
        None => 0..story_names().len(),
    };
    for story in stories {
        for pace in Pace::ALL.into_iter().filter(|pace| options.pace.is_none_or(|p| p == *pace)) {
            let mut hear = |breach: Box<Breach>| {
                breaches += 1;
                tell(&breach, options.goes_on);
                options.goes_on
            };
            match crash_points(story, pace, None, depth, &mut hear) {
                Ok((more, outcome)) => {
                    runs += more;
                    total.add(&outcome);
                }
                Err(breach) => {
                    breaches += 1;
                    tell(&breach, options.goes_on);
                }
            }
            if breaches > 0 && !options.goes_on {
                return ExitCode::FAILURE;
            }
        }
    }
    sum_up(runs, "runs", &total, begun, breaches)
}

fn sum_up(count: u64, what: &str, total: &Outcome, begun: Instant, breaches: u64) -> ExitCode {
    let seconds = begun.elapsed().as_secs_f64().max(0.001);
    let Outcome { effects, kills, double_faults, ends, unknowns } = total;
    println!("{count} {what}, {kills} kills, {double_faults} double faults, {effects} effects");
    println!("{ends} ends told, {unknowns} of them unknown");
    println!("{:.0} effects a second, {seconds:.1} s", *effects as f64 / seconds);
    if breaches > 0 {
        println!("{breaches} {what} broke an invariant");
        return ExitCode::FAILURE;
    }
    println!("every invariant held");
    ExitCode::SUCCESS
}

/// Says what broke, in one line or with a trace.
fn tell(breach: &Breach, is_short: bool) {
    let Loss { tale, pace, kills, .. } = &breach.loss;
    if is_short {
        let broken = &breach.broken;
        print!("{}: {} ", broken.number, broken.sentence);
    } else if let Err(told) = play(&breach.loss, Telling::Last) {
        println!("{told}");
    }
    match tale {
        Tale::Story(story) => print!("replay: cargo xtask sim --crash-points --story {story}"),
        Tale::Walk { seed, acts } => {
            println!("replay: cargo xtask sim --walks --seed {seed} --acts {acts}");
            return;
        }
    }
    print!(" --pace {}", pace_name(*pace));
    for kill in kills {
        print!(" --kill {}@{}", role_name(kill.whom), kill.at);
    }
    println!();
}

fn play_one(options: &Options) -> ExitCode {
    let loss = Loss {
        tale: Tale::Story(options.story.unwrap_or(0)),
        pace: options.pace.unwrap_or(Pace::Lazy),
        kills: options.kills.clone(),
        sabotage: None,
    };
    say(play(&loss, Telling::All))
}

fn say(played: Result<Outcome, Box<Breach>>) -> ExitCode {
    match played {
        Ok(outcome) => {
            println!("{} effects, every invariant held", outcome.effects);
            ExitCode::SUCCESS
        }
        Err(breach) => {
            println!("{breach}");
            ExitCode::FAILURE
        }
    }
}
