//! The text of a `keepd.toml`.

use std::sync::Arc;

use keepd_plan::{
    Context, Diagnostic, RenderOptions, Source, includes, load, load_salvaging, render_plan,
    start_order,
};

const PROJECT: Context = Context { project: true };
const REVEALED: RenderOptions = RenderOptions { origins: false, reveal: true };

/// A file with any text: either a plan, which is the same when it is read from what is shown of it,
/// or errors that point into the file. What is not UTF-8 is not read at all.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let source = source(text);
    if let Err(errors) = includes(&source) {
        check_all(&errors, text);
    }
    let sources = [source];
    let salvaged = load_salvaging(&sources, &PROJECT);
    match load(&sources, &PROJECT) {
        Ok(loaded) => {
            check_all(&loaded.warnings, text);
            let salvaged = salvaged.expect("what can be loaded can be salvaged");
            assert_eq!((&salvaged.plan, salvaged.quarantined.len()), (&loaded.plan, 0));
            assert_eq!(start_order(&loaded.plan).len(), loaded.plan.services.len());
            let shown = render_plan(&loaded.plan, REVEALED);
            let again = load(&[self::source(&shown)], &PROJECT);
            let again =
                again.unwrap_or_else(|errors| panic!("{errors:#?}\nin what is shown:\n{shown}"));
            assert_eq!(render_plan(&again.plan, REVEALED), shown);
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "a refusal has a reason");
            check_all(&errors, text);
            if let Ok(salvaged) = salvaged {
                check_all(&salvaged.warnings, text);
            }
        }
    }
}

fn source(text: &str) -> Source {
    Source {
        file: Arc::from("keepd.toml"),
        directory: "/srv/project".to_owned(),
        text: text.to_owned(),
    }
}

/// Checks that every diagnostic says something, and points to a line that is there.
fn check_all(diagnostics: &[Diagnostic], text: &str) {
    for diagnostic in diagnostics {
        assert!(!diagnostic.message.is_empty());
        if let Some(origin) = &diagnostic.origin {
            let lines = text.split('\n').count();
            let line = usize::try_from(origin.line).expect("a line fits a word");
            assert!((1..=lines).contains(&line), "{diagnostic:?} of {lines} lines");
        }
    }
}
