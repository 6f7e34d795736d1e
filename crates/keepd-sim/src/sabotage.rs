//! Worlds that are broken on purpose, so that the checks are seen to fail.

/// One thing that a sabotaged world does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sabotage {
    /// One group becomes empty, and nobody is told.
    LosesEmptyGroup,
    /// The shell clones twice for one request.
    SpawnsTwice,
    /// The proxy's answer to a start makes another generation than it says.
    SkipsGeneration,
    /// A `down` of a generation that still runs reaches the manager.
    ForgesDown,
    /// One answer to a command is lost.
    LosesAnswer,
    /// One answer to a command comes twice.
    AnswersTwice,
    /// A signal goes to another process than it was meant for.
    SignalsStranger,
    /// A readiness question is answered well before it holds.
    ForgesReadiness,
    /// The manager's clock runs ahead.
    HurriesTimers,
    /// The proxy loses what the manager wrote down.
    LosesNotes,
    /// A service is killed when the manager's connection ends.
    KillsAtTakeover,
    /// The manager is given a plan without edges.
    IgnoresEdges,
    /// The status of an end is reported wrong.
    ForgesStatus,
    /// One request of a client is swallowed by the manager's shell.
    SwallowsRequest,
    /// Lines of a plain client do not reach it.
    LosesNews,
    /// A plain client is told of a service of keepd's own.
    ShowsInternal,
    /// A line of the old language has one field more.
    AddsField,
    /// The front end does not hear one answer of the machine.
    LosesFrontAnswer,
    /// Errors of one plain client are told to another one.
    TellsErrorToAll,
}

impl Sabotage {
    /// Every kind.
    pub const ALL: [Self; 19] = [
        Self::LosesEmptyGroup,
        Self::SpawnsTwice,
        Self::SkipsGeneration,
        Self::ForgesDown,
        Self::LosesAnswer,
        Self::AnswersTwice,
        Self::SignalsStranger,
        Self::ForgesReadiness,
        Self::HurriesTimers,
        Self::LosesNotes,
        Self::KillsAtTakeover,
        Self::IgnoresEdges,
        Self::ForgesStatus,
        Self::SwallowsRequest,
        Self::LosesNews,
        Self::ShowsInternal,
        Self::AddsField,
        Self::LosesFrontAnswer,
        Self::TellsErrorToAll,
    ];
}
