//! What a successor must do with a slot: every word, with everything that can be found.

use std::fmt;

use keepd_model::{Errno, Exit, Generation, Pid};

use super::identity::{Identity, Match, Seen};
use super::word::{Outcome, State, Word, WordError};

/// What has the pid of a run now. The process is taken hold of first (pidfd_open(2)) and asked
/// then, and the word is read again after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Found {
    /// It could not be found out: no descriptor is free, or the like.
    NotAsked(Errno),
    /// No process has the pid.
    Nobody,
    /// A process that is alive has it.
    Alive {
        /// Who it is.
        seen: Seen,
        /// Its parent is this process or the keeper above it, which both record before they
        /// consume.
        is_ours: bool,
    },
    /// A process that has ended and is not consumed has it.
    Zombie {
        /// Who it is.
        seen: Seen,
        /// As for [`Found::Alive`].
        is_ours: bool,
        /// How it ended, where that can be told already.
        exit: Option<Exit>,
    },
    /// The process that was taken hold of has ended and was consumed since.
    Gone {
        /// Who it was.
        seen: Seen,
        /// How it ended, where the kernel tells (PIDFD_GET_INFO).
        exit: Option<Exit>,
    },
}

/// What must be done next. What changes the word expects the word that was decided about; who finds
/// another one decides again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// The slot is free.
    Nothing,
    /// Nothing runs: the next generation may be started, if the ring has room for its outcome.
    MayStart(Generation),
    /// Nobody will ever know this child: take the intent back ([`Word::cancelled`]), so that it
    /// ends before its program.
    Cancel(Generation),
    /// It runs: hold its pidfd, and wait for POLLHUP.
    Adopt(Generation, Pid),
    /// It is over: write this into the word ([`Word::ended`]).
    Record(Generation, Exit),
    /// The word has the outcome: put it into the ring, then [`Word::settled`].
    Report(Generation, Outcome),
    /// It cannot be known. Nothing is started, nothing is signalled, and this is said.
    Unsure(Doubt),
}

/// Why it cannot be known what became of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Doubt {
    /// The word is damaged.
    Word(WordError),
    /// A process has the pid, and nothing says whether it is the one that was recorded. Look again
    /// later: once nobody has the pid, it is over.
    Process(Generation, Pid),
    /// The kernel did not say who has the pid. Look again later.
    NotAsked(Generation, Pid, Errno),
}

impl fmt::Display for Doubt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(error) => write!(formatter, "cannot say whether it runs: {error}"),
            Self::Process(generation, pid) => write!(
                formatter,
                "cannot say whether process {pid} is its generation {generation}: the kernel \
                 keeps no identity of processes, and it was started while keepd was being lost"
            ),
            Self::NotAsked(generation, pid, errno) => {
                write!(
                    formatter,
                    "cannot look at process {pid} of generation {generation}: {errno}"
                )
            }
        }
    }
}

/// Says what to do with a slot: the word and the identity as they were read, and what has the pid
/// now, which is asked only for a word that says "run" ([`Found::Nobody`] otherwise).
///
/// An end that nobody saw is recorded as [`Exit::Unknown`]: said, never guessed.
pub fn decide(word: Result<Word, WordError>, identity: Option<Identity>, found: Found) -> Decision {
    let word = match word {
        Ok(word) => word,
        Err(error) => return Decision::Unsure(Doubt::Word(error)),
    };
    match word.state() {
        State::Unused => Decision::Nothing,
        State::Down(generation) => Decision::MayStart(generation.next()),
        State::Intent(generation) => Decision::Cancel(generation),
        State::Run(generation, pid) => decide_run(generation, pid, identity, found),
        State::Over(generation, outcome) => Decision::Report(generation, outcome),
    }
}

fn decide_run(
    generation: Generation,
    pid: Pid,
    identity: Option<Identity>,
    found: Found,
) -> Decision {
    // A damaged identity says nothing, and least of all that it is another process.
    let compare = |seen| identity.map_or(Match::Unknown, |identity| identity.compare(seen));
    let unknown = Decision::Record(generation, Exit::Unknown);
    let unsure = Decision::Unsure(Doubt::Process(generation, pid));
    let adopt = Decision::Adopt(generation, pid);
    match found {
        Found::NotAsked(errno) => Decision::Unsure(Doubt::NotAsked(generation, pid, errno)),
        Found::Nobody => unknown,
        // A keeper consumes a child only after the word says so: the number of one of our children
        // cannot have been given again.
        Found::Alive { seen, is_ours } => match (compare(seen), is_ours) {
            (Match::Same, _) | (Match::Unknown, true) => adopt,
            (Match::Other, _) => unknown,
            (Match::Unknown, false) => unsure,
        },
        Found::Zombie { seen, is_ours, exit } => match (compare(seen), is_ours) {
            (Match::Same, _) | (Match::Unknown, true) => {
                exit.map_or(adopt, |exit| Decision::Record(generation, exit))
            }
            (Match::Other, _) => unknown,
            (Match::Unknown, false) => unsure,
        },
        // Whoever it was, nobody has the pid any more.
        Found::Gone { seen, exit } => match compare(seen) {
            Match::Same => Decision::Record(generation, exit.unwrap_or(Exit::Unknown)),
            Match::Other | Match::Unknown => unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SELF: Seen = Seen { inode: Some(5), start_ticks: Some(50) };
    const OTHER: Seen = Seen { inode: Some(6), start_ticks: Some(60) };
    const BLIND: Seen = Seen { inode: None, start_ticks: None };

    fn generation() -> Generation {
        Generation::new(1)
    }

    fn pid() -> Pid {
        Pid::new(7).unwrap()
    }

    fn intent() -> Word {
        Word::UNUSED.claimed().and_then(Word::intended).unwrap()
    }

    fn run() -> Word {
        intent().running(pid()).unwrap()
    }

    fn founds() -> Vec<Found> {
        let mut all = vec![Found::NotAsked(Errno(24)), Found::Nobody];
        for seen in [SELF, OTHER, BLIND] {
            for exit in [None, Some(Exit::Code(3))] {
                all.push(Found::Gone { seen, exit });
                let zombie = |is_ours| Found::Zombie { seen, is_ours, exit };
                all.extend([false, true].map(zombie));
            }
            all.extend([false, true].map(|is_ours| Found::Alive { seen, is_ours }));
        }
        all
    }

    #[test]
    fn words_without_a_process_do_not_depend_on_what_is_found() {
        let down = Word::UNUSED.claimed().unwrap();
        let ended = run().ended(Exit::Code(3)).unwrap();
        let damaged = WordError::Damaged(1);
        for found in founds() {
            let decide = |word| decide(word, Some(Identity::Inode(5)), found);
            assert_eq!(decide(Ok(Word::UNUSED)), Decision::Nothing);
            assert_eq!(decide(Ok(down)), Decision::MayStart(generation()));
            assert_eq!(decide(Ok(intent())), Decision::Cancel(generation()));
            let outcome = Outcome::Ended(Exit::Code(3));
            assert_eq!(decide(Ok(ended)), Decision::Report(generation(), outcome));
            assert_eq!(decide(Err(damaged)), Decision::Unsure(Doubt::Word(damaged)));
        }
    }

    #[test]
    fn a_run_is_adopted_recorded_or_left_alone() {
        let adopt = Decision::Adopt(generation(), pid());
        let unsure = Decision::Unsure(Doubt::Process(generation(), pid()));
        let record = |exit| Decision::Record(generation(), exit);
        let code = Exit::Code(3);
        for found in founds() {
            let expected = match found {
                Found::NotAsked(errno) => {
                    Decision::Unsure(Doubt::NotAsked(generation(), pid(), errno))
                }
                Found::Nobody => record(Exit::Unknown),
                Found::Alive { seen: SELF, .. } => adopt,
                Found::Alive { seen: BLIND, is_ours } => {
                    if is_ours {
                        adopt
                    } else {
                        unsure
                    }
                }
                Found::Zombie { seen: SELF, exit, .. } => exit.map_or(adopt, record),
                Found::Zombie { seen: BLIND, is_ours: false, .. } => unsure,
                Found::Zombie { seen: BLIND, exit, .. } => exit.map_or(adopt, record),
                Found::Gone { seen: SELF, exit: Some(exit) } => record(exit),
                Found::Alive { .. } | Found::Zombie { .. } | Found::Gone { .. } => {
                    record(Exit::Unknown)
                }
            };
            assert_eq!(decide(Ok(run()), Some(Identity::Inode(5)), found), expected, "{found:?}");
        }
        let alive = |seen, is_ours| Found::Alive { seen, is_ours };
        for identity in [None, Some(Identity::Nobody), Some(Identity::Awaited(generation()))] {
            assert_eq!(decide(Ok(run()), identity, alive(SELF, true)), adopt);
            assert_eq!(decide(Ok(run()), identity, alive(SELF, false)), unsure);
            let gone = Found::Gone { seen: SELF, exit: Some(code) };
            assert_eq!(decide(Ok(run()), identity, gone), record(Exit::Unknown));
        }
    }

    #[test]
    fn what_may_be_alive_is_never_started_again_and_nothing_foreign_is_adopted() {
        for identity in [None, Some(Identity::Inode(5)), Some(Identity::StartTicks(50))] {
            for found in founds() {
                let decision = decide(Ok(run()), identity, found);
                let is_taken = matches!(decision, Decision::Adopt(..));
                let is_over = matches!(decision, Decision::Record(..) | Decision::MayStart(_));
                match found {
                    Found::Alive { seen: SELF, .. } => assert!(!is_over, "{found:?}"),
                    Found::Alive { seen: OTHER, is_ours: false } | Found::Gone { .. } => {
                        assert!(!is_taken, "{found:?}");
                    }
                    Found::NotAsked(_)
                    | Found::Nobody
                    | Found::Alive { .. }
                    | Found::Zombie { .. } => {}
                }
            }
        }
    }

    #[test]
    fn doubts_are_sentences() {
        let doubt = Doubt::NotAsked(generation(), pid(), Errno(24));
        let text = "cannot look at process 7 of generation 1: too many open files";
        assert_eq!(doubt.to_string(), text);
        let text = "cannot say whether it runs: the word 0x0000000000000001 is damaged";
        assert_eq!(Doubt::Word(WordError::Damaged(1)).to_string(), text);
    }
}
