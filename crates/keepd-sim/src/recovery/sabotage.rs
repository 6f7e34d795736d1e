//! Shells that do one thing in the wrong way, so that the judge is seen to find it.

/// One thing that is done in the wrong way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sabotage {
    /// A zombie is let go before the word says how it ended.
    ConsumesFirst,
    /// Intents are left as they are when their parent is lost, and their services taken for down.
    LeavesIntents,
    /// A new proxy is started before intents are taken back.
    StartsBeforeCancelling,
    /// A child goes on although its intent was taken back.
    RefusalIgnored,
    /// No process is held for a new proxy by its pidfd.
    PassesNoPidfds,
    /// A service that runs is not adopted, but taken for ended.
    ForgetsRuns,
    /// Answers are sent before the journal has what they are about.
    AnswersFirst,
    /// What the journal has at its torn end is left there.
    KeepsTornEnd,
    /// Ends that nobody has acknowledged are not told after adoption.
    ForgetsEnds,
    /// The ends for reading of log pipes are not held by the warden.
    HoldsNoPipes,
    /// Lines of a log are read before they are written, as two calls.
    ReadsThenWrites,
    /// An end is acknowledged before anybody was told of it.
    AcknowledgesUnread,
}

impl Sabotage {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::ConsumesFirst,
        Self::LeavesIntents,
        Self::StartsBeforeCancelling,
        Self::RefusalIgnored,
        Self::PassesNoPidfds,
        Self::ForgetsRuns,
        Self::AnswersFirst,
        Self::KeepsTornEnd,
        Self::ForgetsEnds,
        Self::HoldsNoPipes,
        Self::ReadsThenWrites,
        Self::AcknowledgesUnread,
    ];
}
