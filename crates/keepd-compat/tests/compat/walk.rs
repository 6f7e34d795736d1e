//! Many commands in any order from several clients, some of whom do not read: whatever happens,
//! clients hear whole lines, buffers stay small, and a table kept from the lines is the truth.

use std::collections::BTreeMap;

use keepd_compat::{Client, Limits, Pool};
use keepd_engine::proxy::{ConnectionId, Input};
use keepd_model::{Exit, Signal};

use crate::driver::{BOSS, Driver, OTHER, seconds};

/// A client that reads only when told to.
const SLOW: ConnectionId = ConnectionId(4);
/// What may wait for a client: its buffer, the answer to one command, and one piece of a dump.
const SLACK_BYTES: usize = 64 * 1024;

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((word ^ (word >> 31)) % end as u64).unwrap()
    }

    fn of<'words>(&mut self, words: &[&'words str]) -> &'words str {
        words[self.below(words.len())]
    }

    fn command(&mut self) -> String {
        let service = self.of(&["a", "b", "c", "d", "-", ""]);
        let handle = self.of(&["h", "i", "null", "control.cmd", "-", "gone"]);
        let word = self.of(&["x", "", "always", "SIGHUP", "5", "-", "read", "unix", "+", "0"]);
        let more = self.of(&["", "⇥", "⇥x", "⇥null", "⇥always", "⇥TERM", "⇥/p", "⇥1⇥2", "⇥-"]);
        let name = self.of(&[
            "service.args",
            "service.tags",
            "service.fds",
            "service.auto_up",
            "service.start",
            "service.signal",
            "service.delete",
            "fd.open",
            "fd.pipe",
            "fd.socket",
            "fd.delete",
            "fd.take",
            "log.filter",
            "log.dest",
            "signal.clear",
            "statedump",
            "echo",
            "nonsense",
        ]);
        match name {
            "service.signal" => format!("{name}⇥{service}⇥{word}"),
            _ if name.starts_with("service.") => format!("{name}⇥{service}⇥{word}{more}"),
            _ if name.starts_with("fd.") => format!("{name}⇥{handle}⇥{word}{more}"),
            "signal.clear" => format!("{name}⇥{word}⇥1"),
            _ => format!("{name}⇥{word}{more}"),
        }
    }
}

/// The last line of each kind for each service.
type Table = BTreeMap<(String, String), String>;

fn learn(table: &mut Table, lines: &str) {
    for line in lines.lines() {
        let fields: Vec<&str> = line.split('⇥').collect();
        let Some(("service", kind)) = fields[0].split_once('.') else { continue };
        let name = fields[1].to_owned();
        if fields[2] == "deleted" {
            table.retain(|(_, known), _| *known != name);
        } else {
            table.insert((kind.to_owned(), name), line.to_owned());
        }
    }
}

fn walk(seed: u64, limits: Limits) {
    let mut random = Random(seed);
    let mut driver = Driver::with_limits(limits);
    driver.connect(OTHER, Client::Both);
    driver.connect(SLOW, Client::Both);
    driver.send(BOSS, "service.args⇥a⇥x\nservice.args⇥b⇥x\nservice.auto_up⇥b⇥1⇥always");
    let mut table = Table::new();
    for _ in 0..600 {
        match random.below(12) {
            0 => driver.cannot_clone = !driver.cannot_clone,
            1 => driver.signal([Signal::HUP, Signal::USR1][random.below(2)], 1),
            2 => driver.pass(seconds(random.below(4) as u64)),
            3 => driver.give(Input::MemoryLow { on: random.below(4) == 0 }),
            4 => {
                if let Some((_, Some(pid))) = driver.spawns.pop() {
                    driver.reap(pid, Exit::Code(1));
                }
            }
            5 => {
                let heard = driver.heard(SLOW);
                assert!(heard.is_empty() || heard.ends_with('\n'));
            }
            6 => {
                let command = random.command();
                driver.send(SLOW, &command);
            }
            _ => {
                let command = random.command();
                let client = if random.below(2) == 0 { BOSS } else { OTHER };
                driver.send(client, &command);
            }
        }
        let heard = driver.heard(OTHER);
        assert!(heard.is_empty() || heard.ends_with('\n'), "{heard:?}");
        assert!(!heard.contains("overflow"));
        learn(&mut table, &heard);
        driver.heard(BOSS);
        assert!(driver.front.output(SLOW).len() < SLACK_BYTES);
        assert_eq!(driver.front.asking(), None, "every question is answered in its turn");
        assert!(driver.front.is_ready(OTHER));
    }
    // What was heard is what a dump says, but for values that were never set, and times.
    let dump = driver.say(BOSS, "statedump");
    let mut dumped = Table::new();
    learn(&mut dumped, &dump);
    for (key, line) in &table {
        let (kind, name) = key;
        let truth = dumped.get(key).unwrap_or_else(|| panic!("seed {seed}: {kind} {name}"));
        let fields = |line: &str| line.split('⇥').take(7).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(fields(line), fields(truth), "seed {seed}");
    }
}

#[test]
fn a_table_kept_from_the_lines_is_the_truth() {
    for seed in 0..40 {
        walk(seed, Limits::default());
    }
}

#[test]
fn so_it_is_with_pools() {
    let limits = Limits {
        services: Some(Pool { count: 3, bytes: 64 }),
        handles: Some(Pool { count: 9, bytes: 32 }),
    };
    for seed in 100..140 {
        walk(seed, limits);
    }
}
