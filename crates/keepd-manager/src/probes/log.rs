//! A search for a line that a run writes (`ready.log`).

use std::sync::Arc;

use keepd_model::Generation;
use keepd_plan::{LinePattern, line_pattern};
use tokio::sync::Notify;

use super::lent::{Lent, Looks};
use super::network::ProbeError;
use crate::logs::{RunReader, ServiceLog, Sought};

/// What was looked at already.
#[derive(Debug)]
pub(super) struct LogSearch {
    /// Where its lines are; `None`: nowhere that keepd could look.
    log: Option<ServiceLog>,
    generation: Generation,
    /// The pattern that the present reader looks for.
    going: Option<Going>,
}

#[derive(Debug)]
struct Going {
    pattern: String,
    line: LinePattern,
    reader: RunReader,
}

impl LogSearch {
    pub(super) fn new(log: Option<ServiceLog>, generation: Generation) -> Self {
        Self { log, generation, going: None }
    }

    /// Looks on for a line that matches.
    fn look(&mut self, pattern: &str) -> Result<Sought, ProbeError> {
        let Some(log) = &self.log else {
            return Err(ProbeError::Unfit("log.mode does not keep its lines in files"));
        };
        // A changed pattern takes effect at once, and on every line of the run.
        let going = match self.going.take().filter(|going| going.pattern == pattern) {
            Some(going) => going,
            None => Going {
                pattern: pattern.to_owned(),
                line: line_pattern(pattern).map_err(ProbeError::Pattern)?,
                reader: RunReader::new(log.clone(), self.generation),
            },
        };
        let going = self.going.insert(going);
        going.reader.find(|line| going.line.is_match(line)).map_err(ProbeError::Log)
    }
}

/// Looks until a line matches: at what is there, and then whenever there is news.
pub(super) async fn search(
    looks: &Looks,
    lent: &Arc<Lent<LogSearch>>,
    news: &Notify,
    pattern: &str,
) -> Result<(), ProbeError> {
    loop {
        let pattern = pattern.to_owned();
        match lent.work(looks, move |search| search.look(&pattern)).await? {
            Sought::Found => return Ok(()),
            // Each round ends on this thread, so that others get their turn.
            Sought::More => {}
            Sought::Nothing => news.notified().await,
        }
    }
}
