//! The plain grammar: daemonproxy's commands, as far as this version has them.

use keepd_model::ServiceName;
use keepd_model::protocol::{Command, Scope};

use super::{Mode, Refusal, auto_up, proto, unknown};
use crate::field::{Escapes, Fields, Problem, decimal, quoted, without_zero};

/// Reads a line without a number. Fields that nobody asked for are ignored, as in the original.
pub(super) fn decode(line: &[u8], mode: Mode) -> Result<Command, Refusal> {
    let escapes = match mode {
        Mode::Plain => Escapes::None,
        Mode::Extended => Escapes::Backslash,
    };
    let mut fields = Fields::split(line, escapes)?;
    let command_name = fields.required("command")?;
    let command = match &*command_name {
        b"proto" => proto(&mut fields)?,
        b"echo" => Command::Echo { text: fields.rest().join(&b'\t') },
        b"statedump" => Command::StateDump,
        b"exit" => Command::Exit,
        b"terminate" => terminate(fields)?,
        b"signal.clear" => Command::SignalClear {
            signal: fields.signal()?,
            count: fields.number("count", i64::MAX as u64)?,
        },
        b"service.args" => service_args(fields, mode)?,
        b"service.tags" => Command::ServiceTags {
            name: service_name(&mut fields, mode)?,
            tags: list(fields, mode),
        },
        b"service.auto_up" => {
            let name = service_name(&mut fields, mode)?;
            auto_up(name, fields)?
        }
        b"service.start" => service_start(fields, mode)?,
        b"service.signal" => service_signal(fields, mode)?,
        b"service.delete" => Command::ServiceDelete { name: service_name(&mut fields, mode)? },
        other => return Err(unknown(other, mode == Mode::Extended)),
    };
    Ok(command)
}

/// Reads a name. Plain connections have no `@`, so they can neither make nor touch an instance.
fn service_name(fields: &mut Fields<'_>, mode: Mode) -> Result<ServiceName, Problem> {
    let name = fields.name()?;
    if mode == Mode::Plain && name.instance().is_some() {
        return Err(Problem::new(format!(
            "not a valid service name: {}",
            quoted(name.as_str().as_bytes())
        )));
    }
    Ok(name)
}

/// Reads a list. On a plain connection nothing and one empty field are the same, as the original
/// writes an unset list with a tab at the end.
fn list(fields: Fields<'_>, mode: Mode) -> Vec<Vec<u8>> {
    let list = fields.rest();
    if mode == Mode::Plain && list == [b""] { Vec::new() } else { list }
}

/// Reads `CODE`. The original takes a signed number and the process keeps its low eight bits.
fn terminate(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let code = fields.required("exit code")?;
    let (digits, negative) = match code.strip_prefix(b"-") {
        Some(digits) => (digits, true),
        None => (&*code, false),
    };
    let [low, ..] = decimal(digits, "exit code", i64::MAX as u64)?.to_le_bytes();
    if fields.next().is_some() {
        return Err(Problem::new("a guard code is not supported by this version"));
    }
    Ok(Command::Terminate { code: if negative { low.wrapping_neg() } else { low } })
}

fn service_args(mut fields: Fields<'_>, mode: Mode) -> Result<Command, Problem> {
    let name = service_name(&mut fields, mode)?;
    let arguments = list(fields, mode);
    for argument in &arguments {
        without_zero(argument, "argument")?;
    }
    Ok(Command::ServiceArgs { name, arguments })
}

fn service_start(mut fields: Fields<'_>, mode: Mode) -> Result<Command, Problem> {
    let name = service_name(&mut fields, mode)?;
    if fields.next().is_some() {
        return Err(Problem::new("a start time is not supported by this version"));
    }
    Ok(Command::ServiceStart { name, expected: None })
}

/// Reads `SIGNAL[⇥group]`.
fn service_signal(mut fields: Fields<'_>, mode: Mode) -> Result<Command, Problem> {
    let name = service_name(&mut fields, mode)?;
    let signal = fields.signal()?;
    let scope = match fields.next().as_deref() {
        None => Scope::Main,
        Some(b"group") => Scope::ProcessGroup,
        Some(other) => {
            return Err(Problem::new(format!("unknown option {}", quoted(other))));
        }
    };
    Ok(Command::ServiceSignal { name, expected: None, signal, scope })
}
