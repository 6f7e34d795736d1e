//! Facts about a process as lines, and as JSON.

use std::io::{self, IsTerminal};

use serde::Serialize;

use super::actual::{Expected, Fact};
use crate::arguments::Globals;
use crate::error::CliError;
use crate::output::{Paint, Screen, print_json};

/// What stands for a value that there is not.
const ABSENT: &str = "-";

#[derive(Serialize)]
struct ActualObject<'f> {
    name: &'f str,
    facts: Vec<FactObject<'f>>,
}

#[derive(Serialize)]
struct FactObject<'f> {
    key: &'f str,
    actual: Option<&'f str>,
    expected: Option<&'f str>,
    differs: bool,
}

/// Prints what the kernel says of a service's main process; `!` marks what a start would do
/// otherwise now.
pub(super) fn print(globals: &Globals, name: &str, facts: &[Fact]) -> Result<(), CliError> {
    if globals.is_json() {
        let facts = facts.iter().map(|fact| FactObject {
            key: &fact.key,
            actual: fact.actual.as_deref(),
            expected: match &fact.expected {
                Expected::Value(value) => Some(value),
                Expected::Open | Expected::Absent => None,
            },
            differs: fact.differs(),
        });
        return print_json(&ActualObject { name, facts: facts.collect() });
    }
    let colored = globals.is_colored(io::stdout().is_terminal());
    let width = facts.iter().map(|fact| fact.key.chars().count()).max().unwrap_or(0);
    let mut screen = Screen::stdout();
    for fact in facts {
        let line = line(fact, width);
        screen.line(&if colored && fact.differs() { Paint::Moving.apply(&line) } else { line })?;
    }
    screen.flush()
}

/// Returns `! env.PORT  8080  (a start would give it 8081)`.
fn line(fact: &Fact, width: usize) -> String {
    let key = &fact.key;
    let actual = fact.actual.as_deref().filter(|text| !text.is_empty()).unwrap_or(ABSENT);
    let line = format!("  {key:width$}  {actual}");
    if !fact.differs() {
        return line;
    }
    let would = match &fact.expected {
        Expected::Value(value) => format!("a start would give it {value}"),
        Expected::Open | Expected::Absent => "a start would not give it this".to_owned(),
    };
    format!("!{}  ({would})", &line[1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_marked_and_said() {
        let fact = |key: &str, actual: Option<&str>, expected| Fact {
            key: key.to_owned(),
            actual: actual.map(str::to_owned),
            expected,
        };
        let value = |text: &str| Expected::Value(text.to_owned());
        let lines = [
            fact("uid", Some("7"), value("7")),
            fact("env.A", Some("x"), value("y")),
            fact("env.B", None, value("z")),
            fact("env.C", Some("w"), Expected::Absent),
            fact("cgroup", Some("0::/"), Expected::Open),
        ]
        .map(|fact| line(&fact, 6));
        assert_eq!(
            lines,
            [
                "  uid     7",
                "! env.A   x  (a start would give it y)",
                "! env.B   -  (a start would give it z)",
                "! env.C   w  (a start would not give it this)",
                "  cgroup  0::/",
            ]
        );
    }
}
