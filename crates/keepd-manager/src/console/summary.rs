//! What became of everything, at the end.

use std::time::Duration;

use keepd_engine::manager::ServiceStatus;
use keepd_model::Kind;

use crate::time::short;

/// Returns one line a service, and the total time.
pub(crate) fn lines(statuses: &[ServiceStatus], total: Duration) -> Vec<String> {
    let mut lines: Vec<String> = statuses.iter().map(line).collect();
    lines.push(format!("ended after {}", short(total)));
    lines
}

fn line(status: &ServiceStatus) -> String {
    let name = &status.spec.name;
    if status.spec.kind == Kind::Group {
        return format!("{name}: group, {}", status.state);
    }
    let starts = match status.generation.get() {
        0 => return format!("{name}: never started"),
        1 => "1 start".to_owned(),
        count => format!("{count} starts"),
    };
    let how = status.last_end.as_ref().and_then(|end| match (&end.exit, &end.failure) {
        (_, Some(failure)) => Some(failure.clone()),
        (Some(exit), None) => Some(exit.to_string()),
        (None, None) => None,
    });
    let how = how.map_or_else(String::new, |how| format!(" ({how})"));
    format!("{name}: {starts}, {}{how}", status.state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;
    use keepd_model::{Generation, ServiceSpec};
    use std::sync::Arc;

    #[test]
    fn starts_state_and_end_are_told() {
        let mut status = samples::status();
        status.generation = Generation::NONE;
        status.last_end = None;
        assert_eq!(line(&status), "web: never started");
        let mut group = samples::status();
        group.spec = Arc::new(ServiceSpec::group(group.spec.name.clone()));
        assert_eq!(line(&group), "web: group, backoff");
        let status = samples::status();
        let lines = lines(&[status], Duration::from_millis(192_400));
        assert_eq!(lines, ["web: 5 starts, backoff (signal KILL)", "ended after 3m 12s"]);
    }
}
