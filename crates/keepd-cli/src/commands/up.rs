//! `keepd up`: the stack of a project, in the foreground or in the background.

use clap::Args;
use keepd_manager::Instance;
use keepd_manager::accepted::Accepted;
use keepd_model::{ExitCode, Plan};

use crate::arguments::Globals;
use crate::attach;
use crate::configuration;
use crate::error::{CliError, ErrorKind, diagnostic_object, diagnostic_text};
use crate::place;
use crate::selector;
use crate::top::{self, Input, Prepared, Wishes};

/// Start the services of this project, and show what they print until Ctrl-C
///
/// In the foreground it ends when every service is stopped: after Ctrl-C or TERM, after `keepd
/// down`, or when every service is done or failed. With a selector only these services are started,
/// with what they need.
///
/// Where keepd runs already, it attaches: it starts the selected services, shows what happens from
/// now on, and Ctrl-C only detaches.
#[derive(Args, Debug)]
pub(crate) struct UpOptions {
    /// Start only these services, and what they depend on
    #[arg(value_name = "SELECTOR")]
    pub(crate) select: Vec<String>,

    /// Go to the background, and return when all are ready
    ///
    /// Where keepd runs already, what is enabled or selected and not there is started.
    #[arg(short, long)]
    pub(crate) detach: bool,
}

/// Runs the verb.
///
/// # Errors
/// There is no project, its configuration has errors, or keepd cannot start or be reached.
pub(crate) fn run(globals: &Globals, options: &UpOptions) -> Result<ExitCode, CliError> {
    // Files that are missing are said before anything else is looked for: a project is meant.
    place::config_files(globals)?;
    let place = place::find(globals)?;
    let is_running = || place.instance.as_ref().is_some_and(top::is_locked);
    let attach = if options.detach { attach::start_missing } else { attach::look_on };
    if is_running() {
        return attach(globals, &place, &options.select);
    }
    if let Some(standing) = place.instance.as_ref().and_then(Instance::standing) {
        let word = standing.word();
        let message = format!("cannot start the {word} instance as a project");
        return Err(CliError::new(ErrorKind::Usage, message).with_hint(place.start));
    }
    let project = Project::read(globals)?;
    // A name that means nothing is said now, not by a stack that never gets there.
    let only = match options.select.as_slice() {
        [] => Vec::new(),
        selectors => {
            let names = selector::select(&project.plan, selectors)?;
            names.iter().map(ToString::to_string).collect()
        }
    };
    let wishes = Wishes {
        foreground: !options.detach,
        color: globals.color,
        only,
        no_start: false,
        log_level: globals.verbose.then(|| "debug".to_owned()),
    };
    let prepared = match project.prepare(wishes) {
        // Another one that began at the same time was faster.
        Err(_) if is_running() => return attach(globals, &place, &options.select),
        prepared => prepared?,
    };
    if options.detach {
        top::detach(globals, &prepared)
    } else {
        top::supervise(prepared, Input::Null)
    }
}

/// A project whose configuration is valid.
struct Project {
    plan: Plan,
    accepted: Accepted,
    instance: Instance,
}

impl Project {
    /// Reads and checks the configuration; prints warnings.
    fn read(globals: &Globals) -> Result<Self, CliError> {
        let files = place::config_files(globals)?;
        let first = files.first().map(place::place_in).unwrap_or_default();
        let loaded = configuration::read(files)?.load(true);
        let (accepted, loaded) = loaded.map_err(|diagnostics| {
            let count = configuration::errors(diagnostics.len());
            let message = format!("cannot start the project: the configuration has {count}");
            CliError::configuration(message, &diagnostics)
        })?;
        for warning in &loaded.warnings {
            eprintln!("{}", diagnostic_text(&diagnostic_object(warning), "warning: "));
        }
        let plan = loaded.plan;
        let instance = Instance::locate(&first, &plan.manager, &place::surroundings())?;
        Ok(Self { plan, accepted, instance })
    }

    fn prepare(self, wishes: Wishes) -> Result<Prepared, CliError> {
        let Self { plan, accepted, instance } = self;
        Prepared::new(instance, &accepted, &plan.manager, &place::surroundings(), wishes)
    }
}
