//! A service that cannot be started says why, and costs the others nothing.
//! (behaviour 6.6, 8.7)

use keepd_testkit::{LONG, Project};

/// Each service has one fault; what keepd must say about it.
const FAULTS: &[(&str, &str, &str)] = &[
    ("missing", "command = \"/bin/webd\"", "executable \"/bin/webd\" not found"),
    ("nowhere", "command = \"webd-nowhere\"", "executable \"webd-nowhere\" not found in PATH"),
    ("not-executable", "command = \"./plain.txt\"", "plain.txt\" is not executable"),
    ("no-folder", "command = \"true\"\nworking_dir = \"absent\"", "absent\" not found"),
    (
        "no-user",
        "command = \"true\"\nuser = \"nobody-of-that-name\"",
        "user \"nobody-of-that-name\" not found",
    ),
    ("no-file", "command = \"true\"\nenv_file = \"absent.env\"", "absent.env\" not found"),
    (
        "no-variable",
        "command = \"true ${ABSENT_VARIABLE:?set it}\"",
        "variable \"ABSENT_VARIABLE\" is not set: set it",
    ),
    ("no-interpreter", "command = \"./script\"", "script\" or its interpreter not found"),
];

#[test]
fn each_fault_is_named_and_the_others_run() {
    let mut configuration = String::from(
        "[services.good]\ncommand = \"${TEST_SERVICE} --ready 0\"\nready.notify = true\n",
    );
    for (name, lines, _) in FAULTS {
        configuration.push_str(&format!("[services.{name}]\n{lines}\nrestart = \"never\"\n"));
    }
    let project = Project::new(&configuration);
    project.write("plain.txt", "no program\n");
    project.write_program("script", "#!/nowhere/interpreter\n");
    let _up = project.up();
    assert_eq!(project.wait_for_state("good", "ready")["generation"], 1);
    for (name, _, expected) in FAULTS {
        let service = project.wait_for_state(name, "failed");
        assert_eq!(service["reason"], "exec-error", "{service}");
        let why = project.keepd(["why", name]).expect_code(0).stdout;
        assert!(why.contains(expected), "{name}: {expected}\n{why}");
        project.keepd(["status", name]).expect_code(3);
    }
    assert_eq!(project.service("good")["state"], "ready");
}

#[test]
fn a_start_that_fails_says_it_on_the_terminal() {
    let configuration = "[services.web]\ncommand = \"/bin/webd\"\nrestart = \"never\"\n\
         [services.good]\ncommand = \"${TEST_SERVICE} --ready 0\"\nready.notify = true\n";
    let project = Project::new(configuration);
    let up = project.up();
    project.wait_for_state("web", "failed");
    let cause = "executable \"/bin/webd\" not found";
    up.stdout().wait_for_line("why web failed", LONG, |line| {
        line.ends_with(&format!(" keepd: web failed: {cause}"))
    });
    let start = project.keepd(["start", "web"]).expect_code(1);
    assert_eq!(start.stderr, format!("keepd: cannot start service \"web\": {cause}\n"));
}
