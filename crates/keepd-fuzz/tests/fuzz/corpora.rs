use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::{env, fs};

use keepd_fuzz::{TARGETS, Target};

use crate::mutation::Mutator;

/// How many changed copies each target gets.
const CHANGES: usize = 20_000;
/// The same for files of the configuration, which take far longer to read.
const CONFIGURATION_CHANGES: usize = 2_000;

fn folder(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../fuzz", name].iter().collect()
}

/// The files of a target by name, and what they hold.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = folder("corpus").join(target.name);
    let entries = fs::read_dir(&folder);
    let mut files: Vec<(String, Vec<u8>)> = entries
        .unwrap_or_else(|error| panic!("cannot read \"{}\": {error}", folder.display()))
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

fn names_in(name: &str) -> BTreeSet<String> {
    let names = fs::read_dir(folder(name)).unwrap();
    names
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

/// Runs an input, and shows it where it fails: it belongs into the corpus.
fn run(target: &Target, what: &str, input: &[u8]) {
    if catch_unwind(|| (target.run)(input)).is_err() {
        panic!("target \"{}\" failed on {what}: b\"{}\"", target.name, input.escape_ascii());
    }
}

fn change_and_run(name: &str, count: usize) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let inputs: Vec<Vec<u8>> = corpus(target).into_iter().map(|(_, input)| input).collect();
    let mut mutator = Mutator::new(7);
    for number in 0..count {
        run(target, &format!("change {number}"), &mutator.change(&inputs));
    }
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names.len(), TARGETS.len());
    assert_eq!(names_in("corpus"), names);
    assert_eq!(names_in("fuzz_targets"), names);
}

#[test]
fn every_file_of_the_corpora_is_read() {
    for target in &TARGETS {
        let files = corpus(target);
        assert!(files.len() >= 3, "target \"{}\" has {} files", target.name, files.len());
        for (name, input) in files {
            run(target, &name, &input);
        }
    }
}

#[test]
fn changed_requests_are_read_or_refused() {
    change_and_run("requests", CHANGES);
}

#[test]
fn changed_messages_are_read_or_refused() {
    change_and_run("messages", CHANGES);
}

#[test]
fn changed_plain_lines_can_be_said_on_an_extended_connection() {
    change_and_run("plain", CHANGES);
}

#[test]
fn changed_conversations_never_stop_the_front_end() {
    change_and_run("front", CHANGES);
}

#[test]
fn changed_command_lines_are_steps_and_mistakes() {
    change_and_run("options", CHANGES);
    change_and_run("pools", CHANGES);
}

#[test]
fn changed_streams_give_the_same_lines_in_any_pieces() {
    change_and_run("stream", CHANGES);
}

#[test]
fn changed_datagrams_are_read() {
    change_and_run("datagrams", CHANGES);
}

#[test]
fn changed_indexes_are_read() {
    change_and_run("index", CHANGES);
}

#[test]
fn changed_ledgers_are_read_or_refused() {
    change_and_run("ledger", CHANGES);
}

#[test]
fn changed_configurations_are_plans_or_have_errors() {
    change_and_run("configuration", CONFIGURATION_CHANGES);
}
