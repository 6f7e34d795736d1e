//! JSON as a tree.

use std::path::Path;

use serde_json::Map;

use super::keys::Value;
use super::origin::Origin;
use super::report::Report;
use super::tree::{Entry, Node, Table};
use crate::error::ErrorCode;

/// Returns the tree of a text, or reports its syntax error.
pub(super) fn table(path: &Path, text: &str, report: &mut Report) -> Option<Table> {
    match serde_json::from_str::<Map<String, serde_json::Value>>(text) {
        Ok(map) => {
            let origin = Origin::File { path: path.to_owned(), line: None };
            Some(entries(&map, &origin))
        }
        Err(error) => {
            let origin = Origin::File { path: path.to_owned(), line: Some(error.line()) };
            report.error(ErrorCode::ConfigParse, &origin, format!("cannot parse JSON: {error}"));
            None
        }
    }
}

fn entries(map: &Map<String, serde_json::Value>, origin: &Origin) -> Table {
    let entry = |(key, value): (&String, &serde_json::Value)| Entry {
        key: key.clone(),
        origin: origin.clone(),
        node: node(value, origin),
    };
    map.iter().map(entry).collect()
}

fn node(value: &serde_json::Value, origin: &Origin) -> Node {
    Node::Value(match value {
        serde_json::Value::Object(map) => return Node::Table(entries(map, origin)),
        serde_json::Value::Null => Value::Nothing,
        serde_json::Value::Bool(flag) => Value::Flag(*flag),
        serde_json::Value::Number(number) => {
            number.as_i64().map_or(Value::Other("a number that is no whole one"), Value::Integer)
        }
        serde_json::Value::String(text) => Value::Text(text.clone()),
        serde_json::Value::Array(items) => {
            let numbers = items.iter().map(serde_json::Value::as_i64).collect::<Option<_>>();
            numbers.map_or(Value::Other("a list"), Value::List)
        }
    })
}
