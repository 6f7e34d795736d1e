//! Every example of a configuration in the guide and in the README can be used.
//!
//! Many examples show only the keys that are the point. What such a fragment leaves out is no error
//! here: the table of the service, its command, and the other services that it names.

use keepd_plan::{Context, load};

use crate::source;

const DOCUMENTS: [(&str, &str); 2] = [
    ("docs/keepd-toml.md", include_str!("../../../../docs/keepd-toml.md")),
    ("README.md", include_str!("../../../../README.md")),
];

/// An example, with the number of the line before it.
struct Example {
    line: usize,
    text: String,
}

fn examples(document: &str) -> Vec<Example> {
    let mut examples = Vec::new();
    let mut open: Option<Example> = None;
    for (index, line) in document.lines().enumerate() {
        match (line, &mut open) {
            ("```toml", None) => open = Some(Example { line: index + 1, text: String::new() }),
            ("```", Some(_)) => examples.extend(open.take()),
            (line, Some(example)) => {
                example.text.push_str(line);
                example.text.push('\n');
            }
            (_, None) => {}
        }
    }
    assert!(open.is_none(), "every example ends");
    examples
}

/// Puts keys that stand in no table into one of a service.
fn complete(text: &str) -> String {
    let first = text.lines().find(|line| !line.is_empty() && !line.starts_with('#'));
    let first = first.expect("an example has a line");
    if first.starts_with('[') || first.starts_with("include") {
        text.to_owned()
    } else {
        format!("[services.web]\n{text}")
    }
}

/// Whether an error is about what a fragment leaves out.
fn is_left_out(message: &str) -> bool {
    message.contains(": it has no command\n")
        || message.contains(": it has no table yet\n")
        || message.contains(": cannot find service ")
}

#[test]
fn every_example_can_be_used() {
    for (file, document) in DOCUMENTS {
        let examples = examples(document);
        assert!(!examples.is_empty(), "{file} has examples");
        for example in examples {
            let text = complete(&example.text);
            let Err(errors) = load(&[source(&text)], &Context::default()) else {
                continue;
            };
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let wrong: Vec<&String> = errors.iter().filter(|error| !is_left_out(error)).collect();
            assert!(wrong.is_empty(), "{file}:{}: {wrong:#?}\n{text}", example.line);
        }
    }
}
