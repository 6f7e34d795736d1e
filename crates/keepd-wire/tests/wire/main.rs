//! Bytes to messages and back, over every variant, every refusal and thousands of damaged lines.

mod document;
mod generator;
mod mutations;
mod refusals;
mod round_trip;
