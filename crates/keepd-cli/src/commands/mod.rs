//! The verbs, one file each. A verb is a structure of options and a function `run`.

pub(crate) mod apply;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod down;
pub(crate) mod events;
pub(crate) mod history;
pub(crate) mod is;
pub(crate) mod logs;
pub(crate) mod manager;
pub(crate) mod proxy;
pub(crate) mod reference;
pub(crate) mod reload;
pub(crate) mod restart;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod shutdown;
pub(crate) mod signal;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod up;
pub(crate) mod wait;
pub(crate) mod warden;
pub(crate) mod why;
