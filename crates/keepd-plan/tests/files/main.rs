//! Whole files: what becomes of them, and what is said about them.

mod documentation;
mod every_key;
mod example;
mod keep;
mod messages;
mod messages_of_files;
mod messages_of_relations;
mod messages_of_values;
mod rendering;
mod robustness;
mod salvage;

use std::sync::Arc;

use keepd_model::{ServiceName, ServiceSpec};
use keepd_plan::{Context, Loaded, Source, load};

/// A file called `keepd.toml` in `/srv/app`.
fn source(text: &str) -> Source {
    Source { file: "keepd.toml".into(), directory: "/srv/app".into(), text: text.into() }
}

/// Loads one file that has no error.
fn loaded(text: &str) -> Loaded {
    load(&[source(text)], &Context::default())
        .unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"))
}

/// Loads one service called `web` that has a command, with these lines in its table.
fn web(lines: &str) -> Arc<ServiceSpec> {
    let text = format!("[services.web]\ncommand = \"web\"\n{lines}\n");
    service(&text, "web")
}

/// Loads one file without errors and returns one of its services.
fn service(text: &str, name: &str) -> Arc<ServiceSpec> {
    Arc::clone(&loaded(text).plan.services[name])
}

/// Returns what is said about a file with errors, as the command line shows it.
fn errors(text: &str) -> Vec<String> {
    errors_of(&[source(text)])
}

fn errors_of(sources: &[Source]) -> Vec<String> {
    let errors = load(sources, &Context::default()).expect_err("the files have an error");
    errors.iter().map(ToString::to_string).collect()
}

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}
