//! Every interleaving of children, proxies and wardens over three generations and two SIGKILLs, on
//! a model of the kernel, with nothing in common but the cells of the ledger.
//!
//! Each step is one system call or one access to a cell. The transitions, the ring and `decide` are
//! the real ones; the order of steps is that of `docs/design/0009-ledger.md`. The judge watches:
//! no two instances at once, no lost or wrong outcome, generations without gaps, and an end to
//! everything. The sabotage tests show that it sees each order that is wrong.

mod journal;
mod keeper;
mod search;
mod world;

use search::{Found, search};
use world::{Kernel, Sabotage, Violation};

#[test]
fn two_kills_at_any_step_double_lose_and_falsify_nothing() {
    let found = search(Kernel::Modern, None);
    println!("{} states, {} ends", found.states, found.ends);
    assert!(found.violation.is_none(), "{}", found.describe());
    assert!(found.states > 100_000, "{} states are too few to be all", found.states);
    assert!(found.ends > 100);
}

#[test]
fn without_identities_and_foreign_statuses_nothing_is_doubled_or_falsified() {
    let found = search(Kernel::Old, None);
    println!("{} states, {} ends", found.states, found.ends);
    assert!(found.violation.is_none(), "{}", found.describe());
}

fn sabotaged(sabotage: Sabotage) -> Found {
    let found = search(Kernel::Modern, Some(sabotage));
    println!("{}", found.describe());
    found
}

#[test]
fn a_status_consumed_before_it_is_recorded_is_lost() {
    let found = sabotaged(Sabotage::ConsumeFirst);
    assert_eq!(found.violation, Some(Violation::Lost));
}

#[test]
fn an_intent_that_is_not_taken_back_stays_for_ever() {
    let found = sabotaged(Sabotage::IntentIsLeft);
    assert_eq!(found.violation, Some(Violation::Stuck));
}

#[test]
fn a_proxy_started_before_intents_are_taken_back_is_too_early() {
    let found = sabotaged(Sabotage::ForkFirst);
    assert!(found.violation.is_some());
}

#[test]
fn a_child_that_goes_on_after_a_refusal_is_doubled() {
    let found = sabotaged(Sabotage::RefusalIgnored);
    assert_eq!(found.violation, Some(Violation::Double));
}

#[test]
fn a_child_recorded_by_its_parent_alone_is_doubled() {
    let found = sabotaged(Sabotage::ParentRecords);
    assert_eq!(found.violation, Some(Violation::Double));
}

#[test]
fn an_identity_stored_without_looking_makes_a_live_process_another() {
    let found = sabotaged(Sabotage::IdentityOverwritten);
    assert!(found.violation.is_some());
}

#[test]
fn a_pid_alone_adopts_a_stranger() {
    let found = sabotaged(Sabotage::PidIsIdentity);
    assert_eq!(found.violation, Some(Violation::Stuck));
}

#[test]
fn a_process_adopted_without_a_pidfd_is_lost() {
    let found = sabotaged(Sabotage::NoPidfd);
    assert!(matches!(found.violation, Some(Violation::Stuck | Violation::Lost)));
}

#[test]
fn pidfds_that_a_new_proxy_does_not_get_from_its_warden_are_missed() {
    let found = sabotaged(Sabotage::PidfdsNotInherited);
    assert_eq!(found.violation, Some(Violation::Lost));
}

#[test]
fn an_outcome_that_leaves_the_word_before_it_is_in_the_ring_is_lost() {
    let found = sabotaged(Sabotage::SettledFirst);
    assert!(matches!(found.violation, Some(Violation::Stuck | Violation::Gap)));
}
