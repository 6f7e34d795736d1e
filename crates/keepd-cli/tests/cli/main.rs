//! The program as a whole: what it prints to which stream, and its exit codes.

mod check;
mod demo;
mod fixture;
mod logs;
mod manager;
mod usage;
