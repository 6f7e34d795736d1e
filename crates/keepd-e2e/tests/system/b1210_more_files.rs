//! More files than one: includes, folders of drop-ins, and `apply`, which finds what came and went.
//! (behaviour 14.1, 14.2, 14.3, 14.4, 14.5, 14.7)

use keepd_testkit::{LONG, Project};

const SERVICE: &str = "command = \"${TEST_SERVICE} --ready 0\"\nready.notify = true\n";

fn service(name: &str) -> String {
    format!("[services.{name}]\n{SERVICE}")
}

fn names(project: &Project) -> Vec<String> {
    let services = project.services();
    services.iter().filter_map(|service| service["name"].as_str().map(str::to_owned)).collect()
}

#[test]
fn what_is_included_belongs_to_the_project() {
    let project = Project::new("include = [\"conf.d/*.toml\", \"more/one.toml\"]\n");
    project.write("conf.d/10-web.toml", service("web"));
    project.write("conf.d/20-web.toml", "[services.web]\noverride = true\nenv.COLOR = \"blue\"\n");
    project.write("conf.d/.30-hidden.toml", service("hidden"));
    project.write("conf.d/notes.txt", "these are no services");
    project.write("more/one.toml", format!("include = [\"../two.toml\"]\n{}", service("one")));
    project.write("two.toml", service("two"));
    project.keepd(["check"]).expect_code(0);
    let _up = project.up_and_ready();
    assert_eq!(names(&project), ["one", "two", "web"]);
    project.keepd(["down"]).expect_code(0);
    project.assert_nothing_left();
}

#[test]
fn errors_name_the_file_they_are_in() {
    let project = Project::new("include = [\"conf.d/*.toml\",\n  \"gone.toml\"]\n");
    project.write("conf.d/a.toml", format!("{}kolor = 1\n", service("a")));
    project.write("conf.d/b.toml", "include = [\"none/*.toml\"]\n");
    for words in [&["check"][..], &["up"]] {
        let refused = project.keepd(words).expect_code(100);
        let gone = project.path("gone.toml");
        let expected = format!("keepd.toml:2:3: cannot include \"{}\"", gone.display());
        assert!(refused.stderr.contains(&expected), "{}", refused.stderr);
        assert!(refused.stderr.contains("conf.d/a.toml:4:1: "), "{}", refused.stderr);
        assert!(!refused.stderr.contains("none/"), "{}", refused.stderr);
    }
}

#[test]
fn an_apply_finds_files_that_came_and_went() {
    let project = Project::new("include = [\"conf.d/*.toml\"]\n");
    project.write("conf.d/old.toml", service("old"));
    project.write("conf.d/same.toml", service("same"));
    let up = project.up_and_ready();
    assert_eq!(names(&project), ["old", "same"]);
    let same = project.pid("same");

    std::fs::remove_file(project.path("conf.d/old.toml")).unwrap();
    project.write("conf.d/new.toml", service("new"));
    project.keepd(["apply"]).expect_code(0);
    assert_eq!(names(&project), ["new", "same"]);
    assert_eq!(project.pid("same"), same);

    project.write("conf.d/newest.toml", service("newest"));
    up.signal(keepd_model::Signal::HUP);
    project.events().wait_for("ready", "newest", 1, LONG);
    assert_eq!(project.pid("same"), same);
}

#[test]
fn a_folder_stands_for_its_files() {
    let project = Project::new("");
    project.write("folder/b.toml", service("b"));
    project.write("folder/a.toml", service("a"));
    let folder = project.path("folder");
    let folder = folder.to_str().unwrap();
    project.keepd(["check", folder]).expect_code(0);
    project.write("folder/c.toml", service("a"));
    let refused = project.keepd(["check", "folder"]).expect_code(100);
    assert!(refused.stderr.starts_with("folder/c.toml:1:11: "), "{}", refused.stderr);
}
