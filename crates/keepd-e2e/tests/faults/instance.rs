//! What the tests of faults share: services that do little, and whose processes are whose.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::time::Duration;

use keepd_testkit::Project;
use serde_json::Value;

/// How soon after the end of a fault everything is well.
pub(crate) const RECOVERY_MAX: Duration = Duration::from_secs(2);

/// Returns a configuration of services `s0`, `s1`, … with these keys.
pub(crate) fn services(numbers: Range<usize>, keys: &str) -> String {
    let mut text = String::new();
    for number in numbers {
        writeln!(text, "[services.s{number}]\n{keys}").expect("a string takes everything");
    }
    text
}

/// The keys of a service that says when it is ready, and writes down what happens to it.
pub(crate) const TALKING: &str =
    "command = \"${TEST_SERVICE} --ready 0 --chatter 50\"\nready.notify = true\n";

/// Returns the process id of the proxy.
pub(crate) fn proxy_pid(project: &Project) -> u32 {
    let pid = std::fs::read_to_string(project.run_dir().join("proxy.pid"));
    pid.expect("the proxy runs").trim().parse().expect("it is a number")
}

/// Returns the process id of the manager.
pub(crate) fn manager_pid(project: &Project) -> u32 {
    let version = project.api().get("/v1/version").expect("the manager answers").json();
    version["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("it has a process id")
}

/// Returns how many services are in a state.
pub(crate) fn count(services: &[Value], state: &str) -> usize {
    services.iter().filter(|service| service["state"] == state).count()
}

/// Returns generation and process id of each service that is ready.
pub(crate) fn identities(services: &[Value]) -> BTreeMap<String, (u64, u64)> {
    let ready = services.iter().filter(|service| service["state"] == "ready");
    ready
        .map(|service| {
            let name = service["name"].as_str().expect("a service has a name").to_owned();
            let number = |key: &str| service[key].as_u64().expect("who is ready has these");
            (name, (number("generation"), number("pid")))
        })
        .collect()
}
