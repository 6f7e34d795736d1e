//! The log in JSON. One test, because a process has one log.
#![cfg(feature = "json-logs")]

use keepd::{Config, logging};
use keepd_testkit::Scratch;
use serde_json::{Value, json};

#[test]
fn a_line_is_one_object_with_the_fields_of_the_event() {
    let scratch = Scratch::new();
    let path = scratch.path().join("web.log");
    let mut config = Config::default();
    config.logging.json = true;
    config.logging.file = Some(path.clone());
    assert!(logging::init(&config).unwrap().is_own());
    tracing::info!(answer = 42, "first");
    let text = std::fs::read_to_string(path).unwrap();
    let line: Value = serde_json::from_str(text.trim_end()).unwrap();
    let expected = [("message", json!("first")), ("answer", json!(42)), ("level", json!("INFO"))];
    for (key, value) in expected {
        assert_eq!(line[key], value, "{line}");
    }
    for key in ["timestamp", "target", "threadId", "threadName"] {
        assert!(line[key].is_string(), "{key}: {line}");
    }
}
