//! Wrong command lines, and places where there is nothing.

use crate::fixture::Fixture;

#[test]
fn mistakes_end_with_100_and_say_what_to_do() {
    let fixture = Fixture::new();
    fixture
        .run(&["signal", "HUP", "web"])
        .refused(100, "keepd: cannot run \"signal\": it is not supported by this version\n");
    fixture.run(&["statsu"]).refused(
        100,
        "keepd: cannot run \"statsu\": there is no such verb\n\
         hint: the nearest verb is \"status\"\n",
    );
    fixture.run(&["frobnicate"]).refused(
        100,
        "keepd: cannot run \"frobnicate\": there is no such verb\n\
         hint: keepd --help lists the verbs\n",
    );
    fixture.run(&[]).refused(
        100,
        "keepd: cannot tell what to do: no verb is given\nhint: keepd --help lists the verbs\n",
    );
    fixture.run(&["stop"]).refused(
        100,
        "keepd: cannot go on without <SELECTOR>...\n\
         hint: --help after the verb says what it takes\n",
    );
    fixture.run(&["restart", "web", "--order", "start-first"]).refused(
        100,
        "keepd: cannot use option \"--order\": it is not supported by this version\n",
    );
}

#[test]
fn with_json_an_error_is_one_object() {
    let fixture = Fixture::new();
    fixture.run(&["frobnicate", "-o", "json"]).refused(
        100,
        "{\"error\":{\"kind\":\"usage\",\"message\":\"cannot run \\\"frobnicate\\\": there is no \
         such verb\",\"hint\":\"keepd --help lists the verbs\",\"service\":null}}\n",
    );
}

#[test]
fn help_and_version_go_to_standard_output() {
    let fixture = Fixture::new();
    let help = fixture.run(&["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    for verb in ["up", "status", "why", "logs", "check", "demo"] {
        assert!(help.stdout.contains(&format!("\n  {verb} ")), "{verb}");
    }
    assert!(!help.stdout.contains("__"), "{}", help.stdout);
    let version = concat!("keepd ", env!("CARGO_PKG_VERSION"), "\n");
    fixture.run(&["-V"]).done(version);
}

#[test]
fn without_a_project_verbs_say_where_they_looked() {
    let fixture = Fixture::new();
    let folder = fixture.path().display();
    let expected = format!(
        "keepd: cannot find a project: there is no keepd.toml in \"{folder}\" or above\n\
         hint: change to the project's folder, or use -c FILE\n"
    );
    for words in [&["status"][..], &["logs"], &["check"], &["start", "web"]] {
        fixture.run(words).refused(100, &expected);
    }
}

#[test]
fn without_a_manager_verbs_end_with_111() {
    let fixture = Fixture::new();
    fixture.write("keepd.toml", "");
    fixture.write("below/file", "");
    let folder = fixture.path().display();
    let expected = format!(
        "keepd: cannot reach keepd for project \"{folder}\": nothing runs there\n\
         hint: keepd up -d\n"
    );
    for words in [&["status"][..], &["why", "web"], &["stop", "all"], &["apply"]] {
        fixture.run(words).refused(111, &expected);
    }
    let mut below = fixture.command(&["status"]);
    let below = below.current_dir(fixture.path().join("below")).output().unwrap();
    crate::fixture::Run::of(below).refused(111, &expected);
    fixture.run(&["-s", "none.sock", "status"]).refused(
        111,
        &format!(
            "keepd: cannot reach keepd at \"{folder}/none.sock\": nothing runs there\n\
             hint: keepd up -d\n"
        ),
    );
}

#[test]
fn the_processes_of_keepd_have_options_of_their_own() {
    let fixture = Fixture::new();
    fixture.run(&["proxy"]).refused(
        2,
        "fatal: nothing to do: give --interactive, --config or --socket (see --help)\n",
    );
    fixture.run(&["-q", "proxy", "-i"]).refused(
        100,
        "keepd: cannot use options before \"proxy\": it has options of its own\n\
         hint: keepd proxy OPTION...\n",
    );
    let manager = fixture.run(&["__manager", "--odd"]);
    assert_eq!(manager.code, Some(100));
    assert!(manager.stderr.starts_with("keepd: cannot use option \"--odd\"\n"));
}
