//! What a provider of figment says, as a tree.

use figment::value::{Dict, Num, Value as Provided};

use super::keys::Value;
use super::origin::Origin;
use super::tree::{Entry, Node, Table};

/// Returns the tree of a provider's values.
pub(super) fn table(values: &Dict) -> Table {
    let entry = |(key, value): (&String, &Provided)| Entry {
        key: key.clone(),
        origin: Origin::Program,
        node: node(value),
    };
    values.iter().map(entry).collect()
}

fn node(value: &Provided) -> Node {
    Node::Value(match value {
        Provided::Dict(_, values) => return Node::Table(table(values)),
        Provided::String(_, text) => Value::Text(text.clone()),
        Provided::Char(_, letter) => Value::Text(letter.to_string()),
        Provided::Bool(_, flag) => Value::Flag(*flag),
        Provided::Num(_, number) => {
            whole(*number).map_or(Value::Other("a number that is no whole one"), Value::Integer)
        }
        Provided::Empty(..) => Value::Nothing,
        Provided::Array(_, items) => {
            let number = |item: &Provided| match item {
                Provided::Num(_, number) => whole(*number),
                Provided::String(..)
                | Provided::Char(..)
                | Provided::Bool(..)
                | Provided::Empty(..)
                | Provided::Dict(..)
                | Provided::Array(..) => None,
            };
            let numbers = items.iter().map(number).collect::<Option<_>>();
            numbers.map_or(Value::Other("a list"), Value::List)
        }
    })
}

fn whole(number: Num) -> Option<i64> {
    match number {
        Num::F32(_) | Num::F64(_) => None,
        Num::U8(_)
        | Num::U16(_)
        | Num::U32(_)
        | Num::U64(_)
        | Num::U128(_)
        | Num::USize(_)
        | Num::I8(_)
        | Num::I16(_)
        | Num::I32(_)
        | Num::I64(_)
        | Num::I128(_)
        | Num::ISize(_) => {
            let signed = number.to_i128().and_then(|number| i64::try_from(number).ok());
            signed.or_else(|| number.to_u128().and_then(|number| i64::try_from(number).ok()))
        }
    }
}
