//! What a lost keepd left, if it can be taken over: services that run, and a ledger that says so.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;

use keepd_manager::{Instance, Options};
use keepd_model::protocol::{Command, Request};
use keepd_proxy::warden;

use super::leftovers::{Leftover, find_leftovers};
use super::system;
use crate::commands::manager;
use crate::error::CliError;

/// How many processes an error names.
const NAMED_MAX: usize = 8;

/// Looks for what a lost keepd left of an instance whose lock is ours. Returns how it was started,
/// if it goes on; `None`: nothing runs.
///
/// Fails if something runs that cannot be taken over.
pub(super) fn take_over(instance: &Instance) -> Result<Option<Options>, CliError> {
    let left = find_leftovers(instance, None)?;
    if left.is_empty() {
        // A ledger that is about nobody would be taken for one that is.
        warden::forget(&instance.run_dir);
        return Ok(None);
    }
    let found = warden::survivors(&instance.run_dir, &instance.mark())
        .map_err(|why| refusal(instance, &left, Some(&why.to_string())))?;
    if found.processes == 0 {
        return Err(refusal(instance, &left, None));
    }
    let options = earlier_options(instance)
        .ok_or_else(|| refusal(instance, &left, Some("it is not known how it was started")))?;
    let services = match found.services {
        1 => "1 service".to_owned(),
        count => format!("{count} services"),
    };
    eprintln!("keepd: took over {services} of a lost keepd");
    Ok(Some(options))
}

/// Returns how the lost keepd was started: its proxy was told to start the manager so.
fn earlier_options(instance: &Instance) -> Option<Options> {
    let text = fs::read(instance.boot_file()).ok()?;
    let arguments = text.split(|byte| *byte == b'\n').find_map(|line| {
        match keepd_wire::decode_request(line).ok()?? {
            Request::Numbered(_, Command::ServiceArgs { arguments, .. }) => Some(arguments),
            Request::Numbered(..) | Request::Unnumbered(_) => None,
        }
    })?;
    let mut words = arguments.into_iter().map(OsString::from_vec).skip(1);
    let verb = words.next()?;
    let options = Options::parse(words).ok()?;
    (verb == manager::VERB && options.instance.run_dir == instance.run_dir).then_some(options)
}

fn refusal(instance: &Instance, left: &[Leftover], why: Option<&str>) -> CliError {
    let mut named: Vec<String> = left
        .iter()
        .take(NAMED_MAX)
        .map(|process| format!("{} ({})", process.pid, process.name))
        .collect();
    if left.len() > NAMED_MAX {
        named.push(format!("and {} more", left.len() - NAMED_MAX));
    }
    let (shown, named) = (instance.shown(), named.join(", "));
    let why = why.map(|why| format!("; they cannot be taken over: {why}")).unwrap_or_default();
    let message = format!("cannot start {shown}: a lost keepd left processes behind: {named}{why}");
    let option = instance.standing().map(|standing| format!(" --{}", standing.word()));
    let hint = format!("keepd down --leftovers{}", option.unwrap_or_default());
    system(message).with_hint(hint)
}
