//! Shells that do one thing in the wrong way, so that the judge is seen to find it.

/// One thing that is done in the wrong way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sabotage {
    /// A zombie is let go before the word says how it ended.
    ConsumesFirst,
    /// Intents are left as they are when their parent is lost.
    LeavesIntents,
    /// A new proxy is started before intents are taken back.
    StartsBeforeCancelling,
    /// A child goes on although its intent was taken back.
    RefusalIgnored,
    /// The warden makes no pidfds for a new proxy.
    PassesNoPidfds,
    /// A service that runs is not adopted, but taken for ended.
    ForgetsRuns,
    /// Answers are sent before the journal has what they are about.
    AnswersFirst,
    /// The number of the last answered record is not written.
    ForgetsAnswered,
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
    pub const ALL: [Self; 13] = [
        Self::ConsumesFirst,
        Self::LeavesIntents,
        Self::StartsBeforeCancelling,
        Self::RefusalIgnored,
        Self::PassesNoPidfds,
        Self::ForgetsRuns,
        Self::AnswersFirst,
        Self::ForgetsAnswered,
        Self::KeepsTornEnd,
        Self::ForgetsEnds,
        Self::HoldsNoPipes,
        Self::ReadsThenWrites,
        Self::AcknowledgesUnread,
    ];
}
