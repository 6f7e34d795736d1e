//! The plan as a file: every key with what is in force, defaults included.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use keepd_model::backoff::Backoff;
use keepd_model::{
    CommandLine, Edge, EnvFile, EnvInherit, ExpectedEnd, Kind, LogMode, LogSpec, ManagerSpec,
    Origin, Origins, Plan, Probe, ReadySpec, Reload, RestartLimit, ServiceName, ServiceSpec,
    Signal, StopSpec, Template,
};

use crate::duration::format_duration;

/// What stands for a value that is not shown. It is no TOML, so that nobody can take it for the
/// value, and no file with it can be loaded.
const HIDDEN: &str = "<hidden>";

/// What a rendering shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenderOptions {
    /// Where each key of a service stands, as a comment at the end of its line: `# FILE:LINE`, or
    /// `# default`.
    pub origins: bool,
    /// The values of `env`, instead of `<hidden>`.
    pub reveal: bool,
}

/// Returns the effective configuration of a service as TOML, in the order of the documentation.
/// What has no value stands in a comment. Read again with `reveal`, beside the services that it
/// names, it gives the same specification, except where it stands.
///
/// Of a quarantined service only the reason can be shown.
pub fn render(spec: &ServiceSpec, options: RenderOptions) -> String {
    let mut lines = Lines { text: String::new(), origins: Some(&spec.origins), options };
    lines.header(&format!("services.{}", bare(spec.name.as_str())), "");
    match (&spec.quarantine, spec.kind) {
        (Some(why), _) => lines.remark(&format!("quarantined: {why}")),
        (None, Kind::Group) => group(&mut lines, spec),
        (None, Kind::Daemon | Kind::Oneshot) => service(&mut lines, spec),
    }
    lines.text
}

/// Returns the whole effective configuration as TOML: `[keepd]`, and every service by name as
/// [`render`] shows it.
pub fn render_plan(plan: &Plan, options: RenderOptions) -> String {
    let mut text = manager(&plan.manager, options);
    for spec in plan.services.values() {
        text.push('\n');
        text.push_str(&render(spec, options));
    }
    text
}

fn manager(spec: &ManagerSpec, options: RenderOptions) -> String {
    // Every field is named, so that a new one cannot be forgotten here.
    let ManagerSpec {
        name,
        log_level,
        log_json,
        run_dir,
        state_dir,
        log_dir,
        echo,
        exit_when,
        shutdown_timeout,
        history_max,
    } = spec;
    // Where the keys of keepd itself stand is not kept.
    let mut lines = Lines { text: "version = 1\n\n".to_owned(), origins: None, options };
    lines.header("keepd", "");
    lines.set("name", string(name));
    lines.set("log_level", string(log_level));
    lines.set("log_format", string(if *log_json { "json" } else { "text" }));
    for (key, path) in [("run_dir", run_dir), ("state_dir", state_dir), ("log_dir", log_dir)] {
        // A dollar sign of a path is written twice, as in every path.
        let path = path.as_deref().map(|path| template(&Template::literal(path)));
        lines.set_or(key, path, "of the instance");
    }
    lines.set("echo", string(echo.word()));
    lines.set("exit_when", string(exit_when.word()));
    lines.set("shutdown_timeout", duration(*shutdown_timeout));
    lines.set("history", history_max.to_string());
    lines.text
}

fn group(lines: &mut Lines<'_>, spec: &ServiceSpec) {
    lines.set("description", string(&spec.description));
    lines.set("kind", string(spec.kind.word()));
    lines.set("enabled", spec.enabled.to_string());
    lines.set("tags", strings(&spec.tags));
    edges(lines, &spec.depends_on);
    lines.set("after", strings(spec.after.iter().map(ServiceName::as_str)));
    lines.set("before", strings(spec.before.iter().map(ServiceName::as_str)));
}

fn service(lines: &mut Lines<'_>, spec: &ServiceSpec) {
    // Every field is named, so that a new one cannot be forgotten; what is ignored here is added by
    // the functions below.
    let ServiceSpec {
        name: _,
        description,
        kind,
        command,
        quarantine: _,
        enabled,
        tags,
        working_dir,
        user,
        group,
        extra_groups,
        umask,
        env,
        env_files,
        env_inherit,
        depends_on,
        after,
        before,
        stop: _,
        reload: _,
        restart: _,
        exit_ok: _,
        backoff: _,
        restart_limit: _,
        shutdown_on: _,
        ready: _,
        log,
        origins: _,
    } = spec;
    lines.set("description", string(description));
    lines.set("kind", string(kind.word()));
    lines.set("shell", matches!(command, Some(CommandLine::Shell(_))).to_string());
    lines.set_or("command", command.as_ref().map(command_line), "none");
    lines.set("enabled", enabled.to_string());
    lines.set("tags", strings(tags));
    lines.set("working_dir", template(working_dir));
    lines.set("user", string(user.as_deref().unwrap_or_default()));
    lines.set("group", string(group.as_deref().unwrap_or_default()));
    lines.set_or("extra_groups", extra_groups.as_ref().map(strings), "those of the user");
    lines.set("umask", string(&format!("{umask:04o}")));
    variables(lines, env);
    lines.set("env_file", list(env_files.iter().map(env_file)));
    lines.set("env_inherit", inherit(env_inherit));
    edges(lines, depends_on);
    lines.set("after", strings(after.iter().map(ServiceName::as_str)));
    lines.set("before", strings(before.iter().map(ServiceName::as_str)));
    ends(lines, spec);
    readiness(lines, spec);
    destination(lines, log);
}

/// Adds how it is stopped and reloaded, and what follows its end.
fn ends(lines: &mut Lines<'_>, spec: &ServiceSpec) {
    let StopSpec { signal: stop_signal, timeout, kill_mode } = spec.stop;
    lines.set("stop_signal", signal(stop_signal));
    lines.set("stop_timeout", duration(timeout));
    lines.set("kill_mode", string(kill_mode.word()));
    let (reload_signal, reload_command) = match &spec.reload {
        Some(Reload::Signal(found)) => (Some(signal(*found)), None),
        Some(Reload::Command(command)) => (None, Some(command_line(command))),
        None => (None, None),
    };
    lines.set_or("reload_signal", reload_signal, "none");
    lines.set_or("reload_command", reload_command, "none");
    lines.set("restart", string(spec.restart.word()));
    lines.set("exit_ok", list(spec.exit_ok.iter().map(|end| expected_end(*end))));
    let Backoff { initial, max, factor, jitter, reset } = spec.backoff;
    lines.set("backoff_initial", duration(initial));
    lines.set("backoff_max", duration(max));
    lines.set("backoff_factor", format!("{factor:?}"));
    lines.set("backoff_jitter", format!("{jitter:?}"));
    lines.set("backoff_reset", duration(reset));
    let RestartLimit { count, window } = spec.restart_limit;
    lines.set("restart_limit", count.to_string());
    lines.set("restart_window", duration(window));
    lines.set("shutdown_on", string(spec.shutdown_on.word()));
}

fn readiness(lines: &mut Lines<'_>, spec: &ServiceSpec) {
    let ReadySpec { notify, fd, probes, delay, timeout, interval } = &spec.ready;
    lines.set("ready.notify", notify.to_string());
    lines.set_or("ready.fd", fd.map(|fd| fd.to_string()), "none");
    for key in Probe::KEYS {
        let probe = probes.iter().find(|probe| probe.key() == key);
        lines.set_or(key, probe.map(question), "none");
    }
    lines.set("ready.delay", duration(*delay));
    lines.set("ready.timeout", duration(timeout.unwrap_or_default()));
    lines.set("ready.interval", duration(*interval));
}

fn destination(lines: &mut Lines<'_>, log: &LogSpec) {
    let LogSpec { mode, stderr } = log;
    let (word, dir, file) = match mode {
        LogMode::File { dir } => ("file", dir.as_ref(), None),
        LogMode::Append { file } => ("append", None, Some(file)),
        LogMode::Null => ("null", None, None),
        LogMode::Inherit => ("inherit", None, None),
    };
    lines.set("log.mode", string(word));
    let default = if word == "file" { "${keepd.log_dir}/${keepd.service}" } else { "none" };
    lines.set_or("log.dir", dir.map(template), default);
    lines.set_or("log.file", file.map(template), "none");
    lines.set("log.stderr", string(stderr.word()));
}

fn variables(lines: &mut Lines<'_>, env: &BTreeMap<String, Option<Template>>) {
    if env.is_empty() {
        lines.set("env", "{}");
    }
    for (name, value) in env {
        let shown = match value {
            Some(_) if !lines.options.reveal => HIDDEN.to_owned(),
            Some(value) => template(value),
            None => "false".to_owned(),
        };
        lines.set(&format!("env.{name}"), shown);
    }
}

fn edges(lines: &mut Lines<'_>, edges: &BTreeMap<ServiceName, Edge>) {
    if edges.is_empty() {
        lines.set("depends_on", "{}");
    }
    for (name, Edge { until, required, on_stop }) in edges {
        let value = format!(
            "{{ until = {}, required = {required}, on_stop = {} }}",
            string(until.word()),
            string(on_stop.word())
        );
        let key = format!("depends_on.{}", bare(name.as_str()));
        lines.set_at(&key, &format!("depends_on.{name}"), &value);
    }
}

/// Lines of TOML.
struct Lines<'s> {
    text: String,
    /// Where the keys stand; none: that is not known.
    origins: Option<&'s Origins>,
    options: RenderOptions,
}

impl Lines<'_> {
    fn header(&mut self, name: &str, key: &str) {
        let line = format!("[{name}]");
        self.line(&line, key);
    }

    /// Adds a key that is called in origins what it is called here.
    fn set(&mut self, key: &str, value: impl AsRef<str>) {
        self.set_at(key, key, value.as_ref());
    }

    fn set_at(&mut self, key: &str, origin_key: &str, value: &str) {
        let line = format!("{key} = {value}");
        self.line(&line, origin_key);
    }

    /// Adds a key, or says what holds where it has no value.
    fn set_or(&mut self, key: &str, value: Option<String>, otherwise: &str) {
        match value {
            Some(value) => self.set_at(key, key, &value),
            None => self.remark(&format!("{key}: {otherwise}")),
        }
    }

    fn remark(&mut self, text: &str) {
        let _ = writeln!(self.text, "# {}", one_line(text));
    }

    fn line(&mut self, line: &str, key: &str) {
        self.text.push_str(line);
        if let Some(origins) = self.origins.filter(|_| self.options.origins) {
            match origins.get(key) {
                Some(Origin { file, line, column: _ }) => {
                    let _ = write!(self.text, "  # {}:{line}", one_line(file));
                }
                None => self.text.push_str("  # default"),
            }
        }
        self.text.push('\n');
    }
}

/// Returns a text that cannot end a comment.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

/// Returns a name as a key, in quotes where TOML wants them.
fn bare(name: &str) -> String {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    match name.bytes().all(fits) {
        true => name.to_owned(),
        false => string(name),
    }
}

/// Returns a text as a basic string of TOML.
fn string(text: &str) -> String {
    let mut written = String::with_capacity(text.len() + 2);
    written.push('"');
    for letter in text.chars() {
        match letter {
            '"' => written.push_str("\\\""),
            '\\' => written.push_str("\\\\"),
            '\n' => written.push_str("\\n"),
            '\t' => written.push_str("\\t"),
            control if control.is_control() => {
                let _ = write!(written, "\\u{:04X}", u32::from(control));
            }
            other => written.push(other),
        }
    }
    written.push('"');
    written
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<String> = items.into_iter().collect();
    format!("[{}]", items.join(", "))
}

fn strings(items: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    list(items.into_iter().map(|item| string(item.as_ref())))
}

fn template(template: &Template) -> String {
    string(&template.to_string())
}

fn duration(duration: Duration) -> String {
    string(&format_duration(duration))
}

fn signal(signal: Signal) -> String {
    match signal.name() {
        Some(name) => string(name),
        None => signal.to_string(),
    }
}

fn command_line(command: &CommandLine) -> String {
    match command {
        CommandLine::Words(words) => list(words.iter().map(template)),
        CommandLine::Shell(line) => string(line),
    }
}

fn env_file(file: &EnvFile) -> String {
    let mark = if file.optional { "-" } else { "" };
    string(&format!("{mark}{}", file.path))
}

fn inherit(inherit: &EnvInherit) -> String {
    match inherit {
        EnvInherit::All => "true".to_owned(),
        EnvInherit::None => "false".to_owned(),
        EnvInherit::Only(names) => strings(names),
    }
}

fn expected_end(end: ExpectedEnd) -> String {
    match end {
        ExpectedEnd::Code(code) => code.to_string(),
        // In quotes always: a bare number would be an exit code.
        ExpectedEnd::Signal(found) => string(&found.to_string()),
    }
}

fn question(probe: &Probe) -> String {
    match probe {
        Probe::Tcp(probe) => template(&probe.address),
        Probe::Http(probe) => template(&probe.url),
        Probe::Exec(command) => command_line(command),
        Probe::Socket(path) | Probe::File(path) => template(path),
        Probe::Log(pattern) => string(pattern),
    }
}
