//! `show NAME --env`: the environment that a start would be given now.

use std::collections::BTreeMap;

use keepd_manager::api::types::LaunchObject;
use serde::Serialize;

use super::redact::shown;
use crate::arguments::Globals;
use crate::error::CliError;
use crate::output::{Screen, print_json};

#[derive(Serialize)]
struct EnvironmentObject<'l> {
    name: &'l str,
    environment: BTreeMap<&'l str, &'l str>,
}

/// Prints `NAME=VALUE` lines, ordered by name.
pub(super) fn print(
    globals: &Globals,
    launch: &LaunchObject,
    reveal: bool,
) -> Result<(), CliError> {
    let variables = launch.environment.iter();
    let environment: BTreeMap<&str, &str> =
        variables.map(|(name, value)| (name.as_str(), shown(name, value, reveal))).collect();
    if globals.is_json() {
        return print_json(&EnvironmentObject { name: &launch.name, environment });
    }
    let mut screen = Screen::stdout();
    for (name, value) in environment {
        screen.line(&format!("{name}={value}"))?;
    }
    screen.flush()
}
