//! `keepd wait`.

use std::time::Duration;

use clap::Args;
use keepd_manager::api::types::{ServicesObject, WaitObject, WaitedObject};
use keepd_model::{ExitCode, State};
use tokio::time::Instant;

use crate::aim::Aim;
use crate::arguments::Globals;
use crate::client::{Client, block_on, with_selectors};
use crate::error::{CliError, ErrorKind};
use crate::output::print_json;
use crate::place;

/// How long one question waits. The answer comes at once when it is decided.
const LOOK: Duration = Duration::from_secs(30);

/// Wait until services are in a state
///
/// The last of several words is the state if it is one: ready (which is meant without a state, and
/// which a oneshot is, too, once it is done), done, stopped, failed, or any other state; healthy:
/// its checks answer; any: keepd knows it. With --for every word is a selector, so `keepd wait
/// --for ready done` waits for a service called done. Exit code 1, with the reason, as soon as one
/// of them cannot get there by itself.
#[derive(Args, Debug)]
#[command(override_usage = "keepd wait [OPTIONS] <SELECTOR>... [STATE]")]
pub(crate) struct WaitOptions {
    /// Wait for these services; the last of several words may be the state
    #[arg(value_name = "SELECTOR", required = true)]
    words: Vec<String>,

    /// Wait for this state, and take every other word as a selector
    #[arg(long = "for", value_name = "STATE")]
    aim: Option<String>,
}

impl WaitOptions {
    /// Tells the selectors from the state.
    fn wanted(&self) -> Result<(&[String], Aim), CliError> {
        if let Some(word) = &self.aim {
            return Ok((&self.words, Aim::parse(word)?));
        }
        if let [select @ .., last] = self.words.as_slice()
            && !select.is_empty()
            && let Some(aim) = Aim::from_word(last)
        {
            return Ok((select, aim));
        }
        Ok((&self.words, Aim::State(State::Ready)))
    }
}

/// Runs the verb.
///
/// # Errors
/// There is no manager or no such service, `--timeout` is over, or a signal came.
pub(crate) fn run(globals: &Globals, options: &WaitOptions) -> Result<ExitCode, CliError> {
    let (select, aim) = options.wanted()?;
    let client = Client::new(&place::find(globals)?);
    block_on(async {
        let answer = tokio::select! {
            answer = wait(&client, globals, select, aim) => answer?,
            _ = tokio::signal::ctrl_c() => {
                let message = "cannot wait any longer: interrupted";
                return Err(CliError::new(ErrorKind::Interrupted, message));
            }
        };
        report(globals, &answer, aim)
    })
}

/// Asks until it is decided.
async fn wait(
    client: &Client,
    globals: &Globals,
    select: &[String],
    aim: Aim,
) -> Result<WaitObject, CliError> {
    let path = match aim {
        Aim::Any => return exists(client, select).await,
        Aim::State(_) | Aim::Healthy => with_selectors("/v1/wait", select),
    };
    let deadline = globals.timeout.map(|limit| (Instant::now() + limit, limit));
    loop {
        let left = deadline.map(|(at, _)| at.saturating_duration_since(Instant::now()));
        let look = left.map_or(LOOK, |left| left.min(LOOK));
        let url = format!("{path}&state={aim}&timeout={}ms", look.as_millis());
        let answer: WaitObject = client.get_within(&url, look).await?;
        if !answer.timed_out {
            return Ok(answer);
        }
        if let Some((at, limit)) = deadline
            && Instant::now() >= at
        {
            let missing = answer.services.iter().filter(|service| !service.reached);
            let missing: Vec<String> =
                missing.map(|service| format!("{} is {}", service.name, service.state)).collect();
            let message = format!(
                "cannot see all of them {aim} within {}: {}",
                keepd_plan::format_duration(limit),
                missing.join(", ")
            );
            return Err(CliError::new(ErrorKind::Timeout, message));
        }
    }
}

/// Asks whether there are such services at all.
async fn exists(client: &Client, select: &[String]) -> Result<WaitObject, CliError> {
    let found: ServicesObject = client.get(&with_selectors("/v1/services", select)).await?;
    let services = found.services.into_iter().map(|service| WaitedObject {
        name: service.name,
        state: service.state,
        reached: true,
        hopeless: None,
    });
    Ok(WaitObject { reached: true, timed_out: false, services: services.collect() })
}

fn report(globals: &Globals, answer: &WaitObject, aim: Aim) -> Result<ExitCode, CliError> {
    if globals.is_json() {
        print_json(answer)?;
    } else {
        for service in answer.services.iter().filter(|service| !service.reached) {
            if let Some(why) = &service.hopeless {
                let name = &service.name;
                let message = format!("cannot wait until service \"{name}\" is {aim}: {why}");
                CliError::new(ErrorKind::System, message).with_service(name).print(false);
            }
        }
    }
    Ok(if answer.reached { ExitCode::Done } else { ExitCode::No })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(words: &[&str], aim: Option<&str>) -> (Vec<String>, String) {
        let options = WaitOptions {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            aim: aim.map(str::to_owned),
        };
        let (select, aim) = options.wanted().unwrap();
        (select.to_vec(), aim.to_string())
    }

    #[test]
    fn the_last_of_several_words_may_be_a_state() {
        let found = |select: &[&str], aim: &str| {
            (select.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), aim.to_owned())
        };
        assert_eq!(wanted(&["db"], None), found(&["db"], "ready"));
        assert_eq!(wanted(&["db", "web"], None), found(&["db", "web"], "ready"));
        assert_eq!(wanted(&["db", "web", "stopped"], None), found(&["db", "web"], "stopped"));
        assert_eq!(wanted(&["done"], None), found(&["done"], "ready"));
        assert_eq!(wanted(&["db", "done"], Some("healthy")), found(&["db", "done"], "healthy"));
    }
}
