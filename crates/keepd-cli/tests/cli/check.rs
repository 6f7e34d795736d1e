//! `keepd check`.

use crate::fixture::Fixture;

const GOOD: &str = "[services.web]\ncommand = \"sleep 1\"\n";

#[test]
fn a_good_file_is_not_talked_about() {
    let fixture = Fixture::new();
    fixture.write("keepd.toml", GOOD);
    fixture.run(&["check"]).done("");
    fixture.run(&["check", "keepd.toml"]).done("");
    fixture.run(&["check", "-o", "json"]).done("{\"diagnostics\":[]}\n");
}

#[test]
fn every_error_has_its_place_and_what_to_do() {
    let fixture = Fixture::new();
    fixture.write(
        "keepd.toml",
        "[services.web]\ncommand = \"sleep 1\"\ndepends-on = [\"cache\"]\n\n\
         [services.cache]\ncommand = \"sleep 1\"\nstop_timeout = 10\n",
    );
    fixture.run(&["check"]).refused(
        100,
        "keepd.toml:3:1: cannot use key \"depends-on\" in service \"web\"\n  \
         hint: the key is \"depends_on\"\n\
         keepd.toml:7:16: cannot use 10 for \"stop_timeout\" in service \"cache\": a bare number \
         has no unit\n  \
         hint: write \"10s\"; supervisord means seconds by it and pm2 milliseconds\n",
    );
    let json = fixture.run(&["check", "-o", "json"]);
    assert_eq!((json.code, json.stderr.as_str()), (Some(100), ""));
    assert!(
        json.stdout.starts_with(
            "{\"diagnostics\":[{\"severity\":\"error\",\"file\":\"keepd.toml\",\"line\":3,\
             \"column\":1,"
        ),
        "{}",
        json.stdout
    );
}

#[test]
fn a_cycle_is_shown_whole() {
    let fixture = Fixture::new();
    fixture.write(
        "a.toml",
        "[services.web]\ncommand = \"x\"\ndepends_on = [\"cache\"]\n\
         [services.cache]\ncommand = \"x\"\ndepends_on = [\"web\"]\n",
    );
    let run = fixture.run(&["check", "a.toml"]);
    assert_eq!(run.code, Some(100));
    assert!(run.stderr.starts_with("a.toml:"), "{}", run.stderr);
    assert!(run.stderr.contains("cannot order services: "), "{}", run.stderr);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let fixture = Fixture::new();
    fixture
        .run(&["check", "gone.toml"])
        .refused(100, "keepd: cannot read \"gone.toml\": no such file or directory\n");
}

#[test]
fn an_unknown_user_is_a_warning_and_with_strict_an_error() {
    let fixture = Fixture::new();
    fixture.write("keepd.toml", format!("{GOOD}user = \"no-such-user-here\"\n"));
    let warning = "keepd.toml:3:1: warning: cannot find user \"no-such-user-here\" of service \
                   \"web\": there is no such user here\n";
    let run = fixture.run(&["check"]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), warning));
    fixture.run(&["check", "--strict"]).refused(100, warning);
}
