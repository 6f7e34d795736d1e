//! Where the logs of an instance are, found without its manager.

use std::env;
use std::path::PathBuf;

use keepd_manager::Instance;
use keepd_manager::accepted::Accepted;
use keepd_manager::logs::{LogLine, ServiceLog, tail};
use keepd_model::{LogMode, Plan, ServiceName, ServiceSpec};

use crate::arguments::Globals;
use crate::configuration;
use crate::error::{CliError, ErrorKind};
use crate::place::{self, Place};

/// Returns the last lines that a service of a running instance wrote. There are none where they
/// cannot be found: that is no reason to say nothing else about the service.
pub(crate) fn last_lines(place: &Place, name: &str, count: usize) -> Vec<LogLine> {
    let Ok(name) = ServiceName::new(name) else {
        return Vec::new();
    };
    let log = LogPlaces::accepted(place).and_then(|places| places.log(&name).ok());
    log.map(|log| tail(&[log], count).lines).unwrap_or_default()
}

/// A plan and the instance whose logs it names.
#[derive(Debug)]
pub(crate) struct LogPlaces {
    plan: Plan,
    instance: Instance,
}

impl LogPlaces {
    /// Finds the configuration in force; if nothing runs, that of the files.
    ///
    /// # Errors
    /// Nothing runs, and the files cannot be found or have errors.
    pub(crate) fn find(globals: &Globals, place: &Place) -> Result<Self, CliError> {
        let Some(instance) = &place.instance else {
            let message = format!("cannot find the logs of keepd {}", place.shown);
            return Err(CliError::new(ErrorKind::NoManager, message)
                .with_hint("name the configuration file with -c FILE"));
        };
        match Self::accepted(place) {
            Some(found) => Ok(found),
            None => Self::of_files(globals, place, instance),
        }
    }

    /// Returns what was accepted by the instance that runs, or ran until it was lost.
    pub(crate) fn accepted(place: &Place) -> Option<Self> {
        let instance = place.instance.as_ref()?;
        let accepted = Accepted::read(&instance.accepted_file()).ok()?;
        let plan = accepted.load().ok()?.plan;
        let instance = instance.clone();
        Some(Self { plan, instance }.with_own_folders())
    }

    fn of_files(globals: &Globals, place: &Place, instance: &Instance) -> Result<Self, CliError> {
        let (roots, project) = place::files_of(globals, place)?;
        let (_, loaded) = configuration::read(roots)?.load(project).map_err(|diagnostics| {
            CliError::configuration(
                "cannot find the logs: the configuration has errors",
                &diagnostics,
            )
        })?;
        let instance = instance.clone();
        Ok(Self { plan: loaded.plan, instance }.with_own_folders())
    }

    /// Takes the folders that the plan itself names. Those of a standing instance are known: they
    /// may have moved to its run folder.
    fn with_own_folders(mut self) -> Self {
        if self.instance.standing().is_some() {
            return self;
        }
        if let Some(state_dir) = &self.plan.manager.state_dir {
            self.instance.state_dir = PathBuf::from(state_dir);
            self.instance.log_dir = self.instance.state_dir.join("log");
        }
        if let Some(log_dir) = &self.plan.manager.log_dir {
            self.instance.log_dir = PathBuf::from(log_dir);
        }
        self
    }

    /// Returns the plan.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Returns the log of a service.
    ///
    /// # Errors
    /// It has none that keepd writes with an index, or its folder cannot be worked out.
    pub(crate) fn log(&self, name: &ServiceName) -> Result<ServiceLog, CliError> {
        let cannot = |why: String| {
            let message = format!("cannot show the log of service \"{name}\": {why}");
            CliError::new(ErrorKind::Usage, message).with_service(name.as_str())
        };
        let spec = self.plan.services.get(name);
        let mode = spec.map(|spec| &spec.log.mode);
        let dir = match mode {
            None => return Err(cannot("there is no such service".to_owned())),
            Some(LogMode::File { dir: None }) => self.instance.service_log_dir(name),
            Some(LogMode::File { dir: Some(dir) }) => {
                let filled = dir.expand(|variable| self.variable(spec, variable));
                PathBuf::from(filled.map_err(|error| cannot(format!("log.dir: {error}")))?)
            }
            Some(LogMode::Append { file }) => {
                return Err(cannot(format!("its log.mode is \"append\" (\"{file}\")")));
            }
            Some(LogMode::Null) => return Err(cannot("its log.mode is \"null\"".to_owned())),
            Some(LogMode::Inherit) => return Err(cannot("its log.mode is \"inherit\"".to_owned())),
        };
        Ok(ServiceLog { name: name.clone(), dir })
    }

    /// Returns what `${NAME}` in a path stands for: keepd's own words, the service's variables, and
    /// those of this process where the service inherits them.
    fn variable(
        &self,
        spec: Option<&std::sync::Arc<ServiceSpec>>,
        variable: &str,
    ) -> Option<String> {
        let spec = spec?;
        let path = |path: &std::path::Path| path.to_str().map(str::to_owned);
        match variable {
            "keepd.service" => Some(spec.name.as_str().to_owned()),
            "keepd.base" => Some(spec.name.base().to_owned()),
            "keepd.instance" => spec.name.instance().map(str::to_owned),
            "keepd.run_dir" => path(&self.instance.run_dir),
            "keepd.state_dir" => path(&self.instance.state_dir),
            "keepd.log_dir" => path(&self.instance.log_dir),
            "keepd.config_dir" => path(&self.instance.config_dir),
            other => match spec.env.get(other) {
                Some(Some(value)) => value.expand(|name| env::var(name).ok()).ok(),
                Some(None) => None,
                None => env::var(other).ok(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepd_testkit::Scratch;

    fn places(scratch: &Scratch, text: &str) -> LogPlaces {
        let file = scratch.write("keepd.toml", text);
        let globals = Globals { config: vec![file], ..Globals::default() };
        LogPlaces::find(&globals, &place::find(&globals).unwrap()).unwrap()
    }

    fn dir_of(places: &LogPlaces, name: &str) -> Result<PathBuf, String> {
        let log = places.log(&ServiceName::new(name).unwrap());
        log.map(|log| log.dir).map_err(|error| error.to_string())
    }

    #[test]
    fn logs_are_found_without_a_manager() {
        let scratch = Scratch::new();
        let places = places(
            &scratch,
            "[services.a]\ncommand = \"true\"\n\
             [services.b]\ncommand = \"true\"\nenv = { AREA = \"x\" }\n\
             log.dir = \"/logs/${AREA}/${keepd.service}\"\n\
             [services.c]\ncommand = \"true\"\nlog.mode = \"null\"\n",
        );
        let beside = scratch.path().join(".keepd/log/a");
        assert_eq!(dir_of(&places, "a"), Ok(beside));
        assert_eq!(dir_of(&places, "b"), Ok("/logs/x/b".into()));
        assert_eq!(
            dir_of(&places, "c"),
            Err("cannot show the log of service \"c\": its log.mode is \"null\"".into())
        );
    }

    #[test]
    fn folders_of_the_file_count() {
        let scratch = Scratch::new();
        let text = "[keepd]\nlog_dir = \"/var/log/x\"\n[services.a]\ncommand = \"true\"\n";
        let places = places(&scratch, text);
        assert_eq!(dir_of(&places, "a"), Ok("/var/log/x/a".into()));
    }
}
