//! The verb itself: what is asked for, and where the answer comes from.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use clap::Args;
use keepd_manager::accepted::{Accepted, AcceptedSource};
use keepd_manager::api::types::{ConfigObject, LaunchObject, ServiceObject, SourceObject};
use keepd_model::{ExitCode, Plan, ServiceSpec};
use keepd_plan::{RenderOptions, render, render_plan};
use serde::Serialize;

use super::actual::{Expectation, Fact, facts};
use super::{environment, report};
use crate::arguments::Globals;
use crate::client::{Client, block_on, url_encoded};
use crate::configuration;
use crate::error::{CliError, ErrorKind};
use crate::output::{Screen, print_json};
use crate::place::{self, Place};

/// Show the configuration that is in force, as TOML
///
/// Every key is there, those that nobody wrote with their defaults. If nothing runs, it is that of
/// the files. Values of variables are hidden without --reveal.
#[derive(Args, Debug)]
pub(crate) struct ShowOptions {
    /// Show only this service
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// Show its main process as the kernel sees it
    ///
    /// What a start would make otherwise now is marked with `!`: the configuration, a file of
    /// variables or a user may have changed since, or the process changed itself.
    #[arg(long, requires = "name", conflicts_with_all = ["env", "origin"])]
    actual: bool,

    /// Show the whole environment that a start would be given now
    #[arg(long, requires = "name", conflicts_with = "origin")]
    env: bool,

    /// Say after each key in which file and line it stands
    #[arg(long)]
    origin: bool,

    /// Show the values of variables; they may be secrets
    #[arg(long)]
    reveal: bool,
}

/// Runs the verb.
///
/// # Errors
/// There is no configuration or no such service; or for what only a running keepd knows, none.
pub(crate) fn run(globals: &Globals, options: &ShowOptions) -> Result<ExitCode, CliError> {
    let place = place::find(globals)?;
    match options.name.as_deref() {
        Some(name) if options.env => {
            let launch: LaunchObject = block_on(Client::new(&place).get(&launch_path(name)))?;
            environment::print(globals, &launch, options.reveal)?;
        }
        Some(name) if options.actual => {
            let facts = actual(globals, &place, name)?;
            let facts = facts.into_iter();
            let facts: Vec<Fact> =
                if options.reveal { facts.collect() } else { facts.map(Fact::redacted).collect() };
            report::print(globals, name, &facts)?;
        }
        name => print(globals, &plan(globals, &place)?, name, options)?,
    }
    Ok(ExitCode::Done)
}

fn launch_path(name: &str) -> String {
    format!("/v1/services/{}/launch", url_encoded(name))
}

#[derive(Serialize)]
struct TomlObject<'t> {
    toml: &'t str,
}

fn print(
    globals: &Globals,
    plan: &Plan,
    name: Option<&str>,
    options: &ShowOptions,
) -> Result<(), CliError> {
    let rendering = RenderOptions { origins: options.origin, reveal: options.reveal };
    let toml = match name {
        None => render_plan(plan, rendering),
        Some(name) => render(find(plan, name)?, rendering),
    };
    if globals.is_json() {
        return print_json(&TomlObject { toml: &toml });
    }
    let mut screen = Screen::stdout();
    screen.text(&toml)?;
    screen.flush()
}

fn find<'p>(plan: &'p Plan, name: &str) -> Result<&'p ServiceSpec, CliError> {
    let found = plan.services.iter().find(|(known, _)| known.as_str() == name);
    found.map(|(_, spec)| spec.as_ref()).ok_or_else(|| {
        let message = format!("cannot find service \"{name}\"");
        let error = CliError::new(ErrorKind::NoSuchService, message).with_service(name);
        match keepd_plan::nearest(name, plan.services.keys().map(|known| known.as_str())) {
            Some(nearest) => error.with_hint(format!("the nearest service is \"{nearest}\"")),
            None => error,
        }
    })
}

/// Returns the plan that is in force; if nothing runs, that of the files.
fn plan(globals: &Globals, place: &Place) -> Result<Plan, CliError> {
    let answer: Result<ConfigObject, CliError> = block_on(Client::new(place).get("/v1/config"));
    let loaded = match answer {
        Ok(config) => in_force(place, config).load(),
        Err(error) if error.kind() == ErrorKind::NoManager && place.instance.is_some() => {
            let (roots, project) = place::files_of(globals, place)?;
            configuration::read(roots)?.load(project).map(|(_, loaded)| loaded)
        }
        Err(error) => return Err(error),
    };
    loaded.map(|loaded| loaded.plan).map_err(|diagnostics| {
        let count = configuration::errors(diagnostics.len());
        let message = format!("cannot show the configuration: it has {count}");
        CliError::configuration(message, &diagnostics)
    })
}

/// Returns the configuration that the manager told, with what its instance knows besides: whether
/// services run in the folder of their file, and whether some are quarantined.
fn in_force(place: &Place, config: ConfigObject) -> Accepted {
    let file = place.instance.as_ref().map(|instance| instance.accepted_file());
    let known = file.and_then(|file| Accepted::read(&file).ok());
    let known = known.unwrap_or_else(|| Accepted::new(true, Vec::new(), Vec::new()));
    Accepted { sources: config.sources.into_iter().map(accepted).collect(), ..known }
}

fn accepted(source: SourceObject) -> AcceptedSource {
    let SourceObject { file, directory, text } = source;
    AcceptedSource { file, path: None, directory, text }
}

/// Looks at the main process of a service.
fn actual(globals: &Globals, place: &Place, name: &str) -> Result<Vec<Fact>, CliError> {
    let client = Client::new(place);
    let path = format!("/v1/services/{}", url_encoded(name));
    let service: ServiceObject = block_on(client.get(&path))?;
    let gone = || {
        let message = format!("cannot look at service \"{name}\": it has no process");
        CliError::new(ErrorKind::NotRunning, message).with_service(name)
    };
    let pid = service.pid.ok_or_else(gone)?;
    let launch: Result<LaunchObject, CliError> = block_on(client.get(&launch_path(name)));
    let launch = match launch {
        Ok(launch) => Some(launch),
        Err(error) => {
            // What runs can be looked at all the same; there is only nothing to compare it with.
            eprintln!("keepd: cannot compare with a new start: {error}");
            None
        }
    };
    let plan = plan(globals, place).ok();
    let keepd = fs::metadata(&place.socket).map_or((0, 0), |socket| (socket.uid(), socket.gid()));
    let expectation = Expectation {
        service: &service,
        launch: launch.as_ref(),
        spec: plan.as_ref().and_then(|plan| find(plan, name).ok()),
        keepd,
    };
    let found = facts(pid, expectation);
    // The number may belong to somebody else by now; then what was read means nothing.
    let after: ServiceObject = block_on(client.get(&path))?;
    if (after.pid, after.generation) != (service.pid, service.generation) {
        return Err(gone());
    }
    found.map_err(|error| {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied => ErrorKind::NotAllowed,
            io::ErrorKind::NotFound => ErrorKind::NotRunning,
            _ => ErrorKind::System,
        };
        let message = format!("cannot look at process {pid} of service \"{name}\"");
        CliError::because(kind, message, error).with_service(name)
    })
}
