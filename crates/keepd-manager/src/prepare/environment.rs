//! The environment of a service at a start, and what its templates are filled in with.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use keepd_model::protocol::{Environment, EnvironmentChange};
use keepd_model::{EnvInherit, ServiceName, ServiceSpec, SpawnStep, Template, TemplateError};
use keepd_os::process;
use keepd_os::users::User;

use super::env_file::{self, EnvFileError};
use super::failure;
use crate::Instance;
use keepd_engine::manager::PrepareFailure;

/// Variables that are meant for keepd itself: the proxy never passes them on, and sets its own.
const OWN_NAMES: [&str; 4] = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "INVOCATION_ID"];
/// The same, by how they begin.
const OWN_PREFIXES: [&str; 2] = ["LISTEN_", "KEEPD_"];

/// Variables by name, as bytes: nobody promises that they are UTF-8.
pub(crate) type Variables = BTreeMap<Vec<u8>, Vec<u8>>;

/// Returns what the proxy passes on to services, as far as nothing else is said: the environment of
/// this process without what is keepd's own.
pub(crate) fn inherited() -> Variables {
    use std::os::unix::ffi::OsStringExt;
    let variables = std::env::vars_os();
    variables
        .map(|(name, value)| (name.into_vec(), value.into_vec()))
        .filter(|(name, _)| !is_own(name))
        .collect()
}

fn is_own(name: &[u8]) -> bool {
    OWN_NAMES.iter().any(|own| own.as_bytes() == name)
        || OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
}

/// The environment of one service at one start.
pub(crate) struct ServiceEnvironment<'a> {
    base: &'a Variables,
    inherit: &'a EnvInherit,
    name: &'a ServiceName,
    instance: &'a Instance,
    variables: Variables,
}

impl<'a> ServiceEnvironment<'a> {
    /// Puts it together: inherited, then those of the user, then the files (later ones win), then
    /// `env`.
    ///
    /// A value of `env` sees everything before `env`, and not the other values of `env`, so that
    /// `PATH = "/opt/bin:${PATH}"` means what it says and the order of keys means nothing.
    pub(crate) fn build(
        base: &'a Variables,
        spec: &'a ServiceSpec,
        user: Option<&User>,
        instance: &'a Instance,
    ) -> Result<Self, PrepareFailure> {
        let mut environment = Self {
            base,
            inherit: &spec.env_inherit,
            name: &spec.name,
            instance,
            variables: base.clone(),
        };
        environment.variables.retain(|name, _| match &spec.env_inherit {
            EnvInherit::All => true,
            EnvInherit::None => name == b"PATH",
            EnvInherit::Only(names) => names.iter().any(|wanted| wanted.as_bytes() == name),
        });
        if let Some(user) = user {
            environment.set_user(user);
        }
        for file in &spec.env_files {
            environment.read_file(&file.path, file.optional)?;
        }
        environment.set_given(spec)?;
        Ok(environment)
    }

    /// Gives a variable a value.
    pub(crate) fn set(&mut self, name: &str, value: &[u8]) {
        self.variables.insert(name.as_bytes().to_vec(), value.to_vec());
    }

    /// Sets what login(1) would; for a number without an entry what containers do.
    fn set_user(&mut self, user: &User) {
        let number = user.uid.to_string();
        let name = user.name.as_deref().unwrap_or(&number).as_bytes();
        let path = |path: &Option<std::path::PathBuf>, otherwise: &str| {
            let path = path.as_deref().unwrap_or(Path::new(otherwise));
            path.as_os_str().as_encoded_bytes().to_vec()
        };
        self.set("USER", name);
        self.set("LOGNAME", name);
        self.set("HOME", &path(&user.home, "/"));
        self.set("SHELL", &path(&user.shell, "/bin/sh"));
    }

    fn read_file(&mut self, path: &Template, optional: bool) -> Result<(), PrepareFailure> {
        let path = self.expand("env_file", path)?;
        match env_file::read(Path::new(&path)) {
            Ok(variables) => {
                for (name, value) in variables {
                    self.variables.insert(name.into_bytes(), value);
                }
                Ok(())
            }
            Err(EnvFileError::Read { source, .. })
                if optional && source.kind() == io::ErrorKind::NotFound =>
            {
                Ok(())
            }
            Err(error) => Err(failure(SpawnStep::Prepare, None, error.to_string())),
        }
    }

    fn set_given(&mut self, spec: &ServiceSpec) -> Result<(), PrepareFailure> {
        let mut given = Vec::new();
        for (name, template) in &spec.env {
            let value = match template {
                Some(template) => Some(self.expand(&format!("env.{name}"), template)?),
                None => None,
            };
            given.push((name, value));
        }
        for (name, value) in given {
            match value {
                Some(value) => self.set(name, value.as_bytes()),
                None => {
                    self.variables.remove(name.as_bytes());
                }
            }
        }
        Ok(())
    }

    /// Fills in a template; `key` is for the message.
    pub(crate) fn expand(&self, key: &str, template: &Template) -> Result<String, PrepareFailure> {
        let unreadable = Cell::new(None);
        let text = template.expand(|name| match self.look_up(name)? {
            Ok(value) => Some(value),
            Err(NotText) => {
                unreadable.set(Some(name.to_owned()));
                None
            }
        });
        if let Some(name) = unreadable.take() {
            let text = format!("{key}: variable \"{name}\" is not UTF-8");
            return Err(failure(SpawnStep::Prepare, None, text));
        }
        let text = text.map_err(|error: TemplateError| {
            failure(SpawnStep::Prepare, None, format!("{key}: {error}"))
        })?;
        if text.contains('\0') {
            return Err(failure(SpawnStep::Prepare, None, format!("{key} holds a NUL byte")));
        }
        Ok(text)
    }

    fn look_up(&self, name: &str) -> Option<Result<String, NotText>> {
        if let Some(word) = name.strip_prefix("keepd.") {
            return self.own_word(word);
        }
        let value = self.variables.get(name.as_bytes())?;
        Some(String::from_utf8(value.clone()).map_err(|_| NotText))
    }

    /// Returns what a `${keepd.…}` stands for.
    fn own_word(&self, word: &str) -> Option<Result<String, NotText>> {
        let path = |path: &Path| path.to_str().map(str::to_owned).ok_or(NotText);
        match word {
            "service" => Some(Ok(self.name.as_str().to_owned())),
            "base" => Some(Ok(self.name.base().to_owned())),
            "instance" => self.name.instance().map(|instance| Ok(instance.to_owned())),
            "run_dir" => Some(path(&self.instance.run_dir)),
            "state_dir" => Some(path(&self.instance.state_dir)),
            "log_dir" => Some(path(&self.instance.log_dir)),
            "config_dir" => Some(path(&self.instance.config_dir)),
            "exe" => own_program(),
            _ => None,
        }
    }

    /// Returns a variable.
    pub(crate) fn get(&self, name: &str) -> Option<&[u8]> {
        self.variables.get(name.as_bytes()).map(Vec::as_slice)
    }

    /// Returns the environment as differences to what the proxy passes on by itself.
    pub(crate) fn differences(&self) -> Environment {
        let clear = match self.inherit {
            EnvInherit::All => false,
            EnvInherit::None | EnvInherit::Only(_) => true,
        };
        let mut changes = Vec::new();
        for (name, value) in &self.variables {
            if clear || self.base.get(name) != Some(value) {
                changes.push(EnvironmentChange::Set(name.clone(), value.clone()));
            }
        }
        if !clear {
            let gone = self.base.keys().filter(|name| !self.variables.contains_key(*name));
            changes.extend(gone.cloned().map(EnvironmentChange::Remove));
        }
        Environment { clear, changes }
    }
}

/// A value is not UTF-8, and so cannot become part of a text.
struct NotText;

/// Returns the path of the running keepd, for services that are keepd themselves.
fn own_program() -> Option<Result<String, NotText>> {
    let path = process::own_executable().ok()?;
    let text = path.to_str().ok_or(NotText);
    // A file that was replaced leaves this mark (proc_pid_exe(5)); the new one is where it was.
    Some(text.map(|text| text.strip_suffix(" (deleted)").unwrap_or(text).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepd_model::{CommandLine, EnvFile};
    use keepd_testkit::Scratch;

    fn base() -> Variables {
        let pairs = [("PATH", "/bin"), ("HOME", "/root"), ("LANG", "C")];
        let bytes = |text: &str| text.as_bytes().to_vec();
        let mut base: Variables =
            pairs.iter().map(|(name, value)| (bytes(name), bytes(value))).collect();
        base.insert(b"ODD".to_vec(), vec![0xff]);
        base
    }

    fn spec(env: &[(&str, Option<&str>)]) -> ServiceSpec {
        let name = ServiceName::new("web@blue").unwrap();
        let mut spec = ServiceSpec::new(name, CommandLine::Words(Vec::new()));
        for (name, value) in env {
            let template = value.map(|value| Template::parse(value).unwrap());
            spec.env.insert((*name).to_owned(), template);
        }
        spec
    }

    fn instance() -> Instance {
        Instance {
            name: "shop-1".into(),
            run_dir: "/run/keepd/shop-1".into(),
            state_dir: "/srv/shop/.keepd".into(),
            log_dir: "/srv/shop/.keepd/log".into(),
            config_dir: "/srv/shop".into(),
        }
    }

    fn words(spec: &ServiceSpec, user: Option<&User>) -> Vec<String> {
        let (base, instance) = (base(), instance());
        let built = ServiceEnvironment::build(&base, spec, user, &instance);
        let Environment { clear, changes } = built.unwrap().differences();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let changes = changes.iter().map(|change| match change {
            EnvironmentChange::Set(name, value) => format!("+{}={}", text(name), text(value)),
            EnvironmentChange::Remove(name) => format!("-{}", text(name)),
        });
        clear.then(|| "=".to_owned()).into_iter().chain(changes).collect()
    }

    fn refused(spec: &ServiceSpec) -> String {
        let (base, instance) = (base(), instance());
        let built = ServiceEnvironment::build(&base, spec, None, &instance);
        built.err().unwrap().text
    }

    #[test]
    fn only_differences_are_sent() {
        let spec = spec(&[("A", Some("1")), ("LANG", None), ("HOME", Some("/root"))]);
        assert_eq!(words(&spec, None), ["+A=1", "-LANG"]);
    }

    #[test]
    fn nothing_or_some_is_inherited() {
        let mut spec = spec(&[("A", Some("1"))]);
        spec.env_inherit = EnvInherit::None;
        assert_eq!(words(&spec, None), ["=", "+A=1", "+PATH=/bin"]);
        spec.env_inherit = EnvInherit::Only(vec!["LANG".into(), "GONE".into()]);
        assert_eq!(words(&spec, None), ["=", "+A=1", "+LANG=C"]);
    }

    #[test]
    fn values_see_what_was_there_before_and_the_words_of_keepd() {
        let spec = spec(&[
            ("PATH", Some("/opt:${PATH}")),
            ("Q", Some("${PATH}")),
            ("W", Some("${keepd.service} ${keepd.base} ${keepd.instance} ${keepd.log_dir}")),
        ]);
        assert_eq!(
            words(&spec, None),
            ["+PATH=/opt:/bin", "+Q=/bin", "+W=web@blue web blue /srv/shop/.keepd/log"]
        );
    }

    #[test]
    fn the_program_of_keepd_has_a_word() {
        let spec = spec(&[("SELF", Some("${keepd.exe}"))]);
        let own = std::env::current_exe().unwrap();
        assert_eq!(words(&spec, None), [format!("+SELF={}", own.display())]);
    }

    #[test]
    fn the_user_wins_over_inheritance_files_over_the_user_and_env_over_files() {
        let scratch = Scratch::new();
        let first = scratch.write("1.env", "USER=file\nA=1\nB=1\nC=1");
        scratch.write("2.env", "B=2\nC=2");
        let mut spec = spec(&[("C", Some("3")), ("DIR", Some(scratch.path().to_str().unwrap()))]);
        let template = |text: &str| Template::parse(text).unwrap();
        let file = |path: &str, optional| EnvFile { path: template(path), optional };
        let dir = scratch.path().display();
        spec.env_files = vec![
            file(first.to_str().unwrap(), false),
            file(&format!("{dir}/${{A:?}}.env"), true),
            file(&format!("{dir}/2.env"), false),
        ];
        spec.env.remove("DIR");
        let user = User {
            name: Some("app".into()),
            uid: 7,
            gid: Some(7),
            home: Some("/home/app".into()),
            shell: None,
        };
        let expected = [
            "+A=1",
            "+B=2",
            "+C=3",
            "+HOME=/home/app",
            "+LOGNAME=app",
            "+SHELL=/bin/sh",
            "+USER=file",
        ];
        assert_eq!(words(&spec, Some(&user)), expected);
    }

    #[test]
    fn what_cannot_be_filled_in_is_named() {
        assert_eq!(
            refused(&spec(&[("A", Some("${GONE}"))])),
            "env.A: variable \"GONE\" is not set and has no default"
        );
        assert_eq!(
            refused(&spec(&[("A", Some("${ODD}"))])),
            "env.A: variable \"ODD\" is not UTF-8"
        );
        let mut spec = spec(&[]);
        let path = Template::literal("/nonexistent/web.env");
        spec.env_files = vec![EnvFile { path, optional: false }];
        assert_eq!(refused(&spec), "env_file \"/nonexistent/web.env\" not found");
    }

    #[test]
    fn what_is_keepds_own_does_not_pass() {
        for name in ["KEEPD_SERVICE", "LISTEN_FDS", "NOTIFY_SOCKET", "INVOCATION_ID"] {
            assert!(is_own(name.as_bytes()), "{name}");
        }
        assert!(!is_own(b"PATH"));
    }
}
