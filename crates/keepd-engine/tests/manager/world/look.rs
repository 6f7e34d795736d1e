//! What a test looks at.

use keepd_engine::manager::{Announcement, Change, Happening, ServiceStatus};
use keepd_model::{ChangeId, State};

use super::{World, name};

impl World {
    pub(crate) fn status(&self, service: &str) -> ServiceStatus {
        self.manager.status(&name(service)).unwrap()
    }

    pub(crate) fn state(&self, service: &str) -> State {
        self.status(service).state
    }

    pub(crate) fn generation(&self, service: &str) -> u64 {
        self.status(service).generation.get()
    }

    pub(crate) fn change(&self, id: ChangeId) -> &Change {
        self.manager.change(id).unwrap()
    }

    /// Returns `NAME reached`, `NAME missed: WHY` or `NAME open` for each goal, `+` before those
    /// along.
    pub(crate) fn goals(&self, id: ChangeId) -> Vec<String> {
        let goals = self.change(id).goals.iter();
        goals
            .map(|goal| {
                let along = if goal.along { "+" } else { "" };
                let name = &goal.name;
                match &goal.outcome {
                    None => format!("{along}{name} open"),
                    Some(keepd_engine::manager::Outcome::Reached(_)) => {
                        format!("{along}{name} reached")
                    }
                    Some(keepd_engine::manager::Outcome::Missed(why)) => {
                        format!("{along}{name} missed: {why}")
                    }
                }
            })
            .collect()
    }

    /// Returns the states that were announced, `NAME STATE`, and forgets them.
    pub(crate) fn steps(&mut self) -> Vec<String> {
        let step = |announcement: Announcement| match announcement.what {
            Happening::State { name, to, .. } => Some(format!("{name} {to}")),
            Happening::ChangeOpened(_)
            | Happening::ChangeClosed(_)
            | Happening::OutputBlocked { .. }
            | Happening::Synchronised { .. }
            | Happening::ShutdownBegun(_) => None,
        };
        std::mem::take(&mut self.announced).into_iter().filter_map(step).collect()
    }

    /// Returns the commands about runs and definitions that were sent, and forgets them.
    pub(crate) fn sent(&mut self) -> Vec<String> {
        std::mem::take(&mut self.commands)
    }

    /// Returns the explanation, indented by depth.
    pub(crate) fn why(&self, service: &str) -> Vec<String> {
        let lines = self.manager.why(self.now, &name(service)).unwrap();
        let indented = lines.iter().map(|line| {
            let indent = "  ".repeat(line.depth);
            format!("{indent}{}", line.text)
        });
        indented.collect()
    }
}
