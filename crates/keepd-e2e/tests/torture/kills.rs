//! Kills of everybody, while services start, end and write.

use keepd_testkit::torture::{Order, Pairs, Table, Victim};

/// Another seed than the usual one: that of a failure is printed with it.
const SEED_VARIABLE: &str = "KEEPD_TORTURE_SEED";

#[test]
fn kills_of_everybody_break_no_promise() {
    let seed = std::env::var(SEED_VARIABLE).map_or(6, |text| text.parse().expect("a number"));
    let victims = Victim::ALL.to_vec();
    let order = Order { seed, kills: 60, services: 64, victims, pairs: Pairs::Any };
    let round = order.run(|_| {});
    let mut table = Table::default();
    table.add(&round);
    println!("{table}");
    assert!(
        round.findings.is_empty(),
        "{SEED_VARIABLE}={seed}, evidence in {:?}:\n{}\n{table}",
        round.evidence,
        round.findings.join("\n")
    );
    assert!(round.figures.starts > 500, "the services were hardly ever started:\n{table}");
}
