//! Which crate may know which. An inner crate never learns of an outer one, and each ring has its
//! own budget of third-party crates; this table is the one place that says so.

use toml::Table;

use super::finding::Finding;
use super::source::package;

/// What one crate may depend on.
struct Row {
    name: &'static str,
    /// Crates of this workspace, without the prefix `keepd-`.
    inner: &'static [&'static str],
    third_party: &'static [&'static str],
}

const ROWS: [Row; 15] = [
    Row { name: "keepd-model", inner: &[], third_party: &[] },
    Row { name: "keepd-engine", inner: &["model"], third_party: &[] },
    Row { name: "keepd-wire", inner: &["model"], third_party: &[] },
    Row { name: "keepd-compat", inner: &["model", "engine", "wire"], third_party: &[] },
    Row {
        name: "keepd-plan",
        inner: &["model"],
        third_party: &["regex", "regex-syntax", "serde", "toml"],
    },
    Row { name: "keepd-os", inner: &["model"], third_party: &["libc", "rlsf", "rustix"] },
    Row {
        name: "keepd-proxy",
        inner: &["model", "engine", "wire", "compat", "os"],
        third_party: &["rustix"],
    },
    Row {
        name: "keepd-manager",
        inner: &["model", "plan", "engine", "wire", "os"],
        third_party: &[
            "axum",
            "glob",
            "http-body-util",
            "hyper",
            "hyper-util",
            "jiff",
            "memchr",
            "regex",
            "serde",
            "serde_json",
            "tokio",
            "tracing",
            "tracing-subscriber",
        ],
    },
    Row {
        name: "keepd-cli",
        inner: &["model", "plan", "engine", "wire", "os", "proxy", "manager"],
        third_party: &[
            "clap",
            "clap_complete",
            "http-body-util",
            "hyper",
            "hyper-util",
            "jiff",
            "serde",
            "serde_json",
            "tokio",
        ],
    },
    Row {
        name: "keepd",
        // `os` only under the features `process` and `mmap-config`.
        inner: &["model", "os"],
        third_party: &[
            "crossbeam-channel",
            "dhat",
            "figment",
            "mimalloc",
            "notify",
            "pin-project-lite",
            "pprof",
            "quanta",
            "rustix",
            "serde",
            "serde_json",
            "tokio",
            "toml",
            "tracing",
            "tracing-subscriber",
        ],
    },
    Row { name: "keepd-sim", inner: &["model", "engine", "wire", "compat"], third_party: &[] },
    Row {
        name: "keepd-fuzz",
        inner: &["model", "engine", "plan", "wire", "compat", "proxy"],
        third_party: &[],
    },
    Row {
        name: "keepd-testkit",
        inner: &["model", "os"],
        // rustix: a test sends descriptors, which the proxy itself only receives.
        third_party: &["rustix", "serde_json"],
    },
    Row { name: "keepd-e2e", inner: &["model", "testkit"], third_party: &["serde_json"] },
    Row {
        name: "keepd-bench",
        inner: &["model", "os"],
        third_party: &["jiff", "rustix", "serde_json"],
    },
];

/// What the tests of every crate may use besides.
const TESTS: Row =
    Row { name: "tests", inner: &["sim", "testkit"], third_party: &["insta", "loom"] };

/// Checks the dependencies in the `Cargo.toml` of one crate.
pub(crate) fn check(path: &str, text: &str, manifest: &Table) -> Vec<Finding> {
    let Some(name) = package(path).strip_prefix("crates/") else {
        return Vec::new();
    };
    let Some(row) = ROWS.iter().find(|row| row.name == name) else {
        let message = "the crate has no row in xtask/src/tidy/edges.rs: add one that says what it \
                       may depend on";
        return vec![Finding::new(path, 1, "edge", message)];
    };
    let mut findings = Vec::new();
    for dependency in dependencies(manifest) {
        let name = dependency.name.as_str();
        let allowed = row.allows(name) || (dependency.for_tests && TESTS.allows(name));
        if !allowed {
            let line = line_of_key(text, name);
            findings.push(Finding::new(path, line, "edge", row.refusal(name)));
        }
    }
    findings
}

impl Row {
    fn allows(&self, dependency: &str) -> bool {
        match dependency.strip_prefix("keepd-") {
            Some(inner) => self.inner.contains(&inner),
            None => self.third_party.contains(&dependency),
        }
    }

    fn refusal(&self, dependency: &str) -> String {
        let advice = match (dependency, self.name) {
            (name, _) if name.starts_with("keepd-") => {
                "move the shared words inwards, or the code that needs it outwards"
            }
            ("libc", _) => "give keepd-os a safe face for the call, and use that",
            ("tokio" | "tracing" | "serde_json" | "clap", _) => {
                "only keepd-manager and keepd-cli are that large; move the code there"
            }
            _ => "write the few lines that are needed, or change the table with a reason",
        };
        format!(
            "{} may not depend on \"{dependency}\" (it may use: {}): {advice}; the table is \
             xtask/src/tidy/edges.rs",
            self.name,
            self.allowed()
        )
    }

    fn allowed(&self) -> String {
        let inner = self.inner.iter().map(|name| format!("keepd-{name}"));
        let third_party = self.third_party.iter().map(|name| (*name).to_owned());
        let all: Vec<String> = inner.chain(third_party).collect();
        if all.is_empty() { "std alone".to_owned() } else { all.join(", ") }
    }
}

/// A line of a dependency table.
pub(crate) struct Dependency<'a> {
    /// The package, where the key is only another name for it.
    pub(crate) name: String,
    /// What stands behind the key.
    pub(crate) value: &'a toml::Value,
    /// It is a dev-dependency.
    pub(crate) for_tests: bool,
}

/// Returns the dependencies of all kinds, those for single targets included.
pub(crate) fn dependencies(manifest: &Table) -> Vec<Dependency<'_>> {
    let targets = manifest
        .get("target")
        .and_then(toml::Value::as_table)
        .into_iter()
        .flat_map(Table::values)
        .filter_map(toml::Value::as_table);
    let mut found = Vec::new();
    for table in std::iter::once(manifest).chain(targets) {
        for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
            let lines = table.get(kind).and_then(toml::Value::as_table);
            for (key, value) in lines.into_iter().flatten() {
                let package = value.get("package").and_then(toml::Value::as_str);
                found.push(Dependency {
                    name: package.unwrap_or(key).to_owned(),
                    value,
                    for_tests: kind == "dev-dependencies",
                });
            }
        }
    }
    found
}

/// Returns the first line that begins with a key, or 1.
pub(crate) fn line_of_key(text: &str, key: &str) -> usize {
    text.lines()
        .position(|line| {
            line.trim_start_matches('"')
                .strip_prefix(key)
                .is_some_and(|rest| rest.starts_with([' ', '.', '=', '"']))
        })
        .map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(name: &str, text: &str) -> Vec<String> {
        let path = format!("crates/{name}/Cargo.toml");
        check(&path, text, &text.parse().unwrap()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_inner_crate_never_learns_of_an_outer_one() {
        let good = "[dependencies]\nkeepd-model.workspace = true\n";
        assert!(findings("keepd-engine", good).is_empty());
        let bad = "[dependencies]\nkeepd-os.workspace = true\n";
        let found = findings("keepd-engine", bad);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("crates/keepd-engine/Cargo.toml:2: edge: "), "{found:?}");
        assert!(found[0].contains("(it may use: keepd-model)"), "{found:?}");
    }

    #[test]
    fn each_ring_has_its_budget() {
        let libc = "[dependencies]\nlibc = { workspace = true }\n";
        assert!(findings("keepd-os", libc).is_empty());
        assert!(findings("keepd-proxy", libc)[0].contains("give keepd-os a safe face"));
        assert!(findings("keepd-model", libc)[0].contains("(it may use: std alone)"));
        let renamed = "[dependencies]\nc = { package = \"libc\", workspace = true }\n";
        assert_eq!(findings("keepd-wire", renamed).len(), 1);
        let on_target = "[target.'cfg(unix)'.dependencies]\nlibc.workspace = true\n";
        assert_eq!(findings("keepd-plan", on_target).len(), 1);
        let for_build = "[build-dependencies]\ncc = \"1\"\n";
        assert_eq!(findings("keepd-os", for_build).len(), 1);
    }

    #[test]
    fn tests_may_use_the_simulation_and_the_fixtures() {
        let text = "[dev-dependencies]\nkeepd-sim.workspace = true\ninsta.workspace = true\n";
        assert!(findings("keepd-wire", text).is_empty());
        let shipped = "[dependencies]\nkeepd-sim.workspace = true\n";
        assert_eq!(findings("keepd-cli", shipped).len(), 1);
        let tokio = "[dev-dependencies]\ntokio.workspace = true\n";
        assert_eq!(findings("keepd-wire", tokio).len(), 1);
    }

    #[test]
    fn a_new_crate_needs_a_row() {
        assert!(findings("keepd-new", "")[0].contains("has no row"));
        assert!(check("xtask/Cargo.toml", "", &Table::new()).is_empty());
    }
}
