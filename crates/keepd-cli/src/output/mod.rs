//! How results look: tables, colours, times, and standard output itself.

mod json;
mod paint;
mod quantity;
mod screen;
mod table;
mod time;

pub(crate) use json::print_json;
pub(crate) use paint::Paint;
pub(crate) use quantity::{ago, bytes, percent, span};
pub(crate) use screen::Screen;
pub(crate) use table::{Align, Cell, Column, render};
pub(crate) use time::{Clock, parse_time};
