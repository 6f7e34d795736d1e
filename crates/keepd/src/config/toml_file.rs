//! TOML as a tree with lines.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::keys::Value;
use super::origin::Origin;
use super::report::Report;
use super::tree::{Entry, Node, Table};
use crate::error::ErrorCode;

/// Returns the tree of a text, or reports every syntax error.
pub(super) fn table(path: &Path, text: &str, report: &mut Report) -> Option<Table> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let reader = Reader { path, text };
    for error in &errors {
        let offset = error.span().map_or(text.len(), |span| span.start);
        let message = format!("cannot parse TOML: {}", error.message());
        report.error(ErrorCode::ConfigParse, &reader.origin(offset), message);
    }
    errors.is_empty().then(|| reader.table(root.get_ref()))
}

struct Reader<'t> {
    path: &'t Path,
    text: &'t str,
}

impl Reader<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Origin::File { path: self.path.to_owned(), line: Some(line) }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        // The parser sorts by name; people read messages in the order of their file.
        let mut lines: Vec<_> = table.iter().collect();
        lines.sort_by_key(|(key, _)| key.span().start);
        let entry = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| Entry {
            key: key.get_ref().clone().into_owned(),
            origin: self.origin(key.span().start),
            node: self.node(value.get_ref()),
        };
        lines.into_iter().map(entry).collect()
    }

    fn node(&self, value: &DeValue<'_>) -> Node {
        Node::Value(match value {
            DeValue::Table(table) => return Node::Table(self.table(table)),
            DeValue::String(text) => Value::Text(text.clone().into_owned()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(Value::Other("a number that is too large"), Value::Integer),
            DeValue::Boolean(flag) => Value::Flag(*flag),
            DeValue::Float(_) => Value::Other("a number with a fraction"),
            DeValue::Datetime(_) => Value::Other("a date"),
            DeValue::Array(items) => {
                let number = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
                    DeValue::Integer(number) => {
                        i64::from_str_radix(number.as_str(), number.radix()).ok()
                    }
                    DeValue::String(_)
                    | DeValue::Float(_)
                    | DeValue::Boolean(_)
                    | DeValue::Datetime(_)
                    | DeValue::Array(_)
                    | DeValue::Table(_) => None,
                };
                let numbers = items.iter().map(number).collect::<Option<_>>();
                numbers.map_or(Value::Other("a list"), Value::List)
            }
        })
    }
}
