//! The connection to the warden: what is said there, and what is done when it is lost.
//!
//! The warden answers nothing. Its end of the channel is closed when it is gone, and then this
//! process takes its place: it is the parent of the services, and stays so under the same number.

use std::borrow::Cow;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::time::Duration;

use keepd_model::{Errno, LogLevel};
use keepd_os::clock;
use keepd_os::epoll::{Epoll, Interest};
use keepd_os::exec::{self, Program};
use keepd_os::process::DescriptorLimit;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::DupFlags;

use crate::channel::ToWarden;
use crate::holder::{Held, Holder};
use crate::run::{Ending, Shell};
use crate::token::Token;

/// How long the end waits until the warden takes the word of it.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(1);

/// The warden, as this process knows it.
pub(crate) struct Link {
    /// What it holds for us, and the way to it.
    pub(crate) holder: Holder,
    /// The file with the lines of the estate, which the warden has open, too.
    file: OwnedFd,
    /// The lock of the instance, if it is ours to keep.
    pub(crate) lock: Option<Held>,
    /// The epoll set says when there is room again.
    waits_for_room: bool,
}

impl Link {
    /// Takes the way to the warden, and the file.
    pub(crate) fn new(holder: Holder, file: OwnedFd) -> Self {
        Self { holder, file, lock: None, waits_for_room: false }
    }

    /// Waits until everything is sent that was said, but no longer than a time.
    fn finish(&self) {
        let deadline = clock::monotonic_now().saturating_add(LEAVE_TIME_MAX);
        while !self.holder.flush() {
            let left = deadline.saturating_since(clock::monotonic_now());
            if left.is_zero() {
                return;
            }
            let timeout = Timespec {
                tv_sec: left.as_secs().cast_signed(),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            self.holder.with_channel(|channel| {
                let mut polled = [PollFd::new(&channel, PollFlags::OUT)];
                // After a signal it is tried again.
                let _ = poll(&mut polled, Some(&timeout));
            });
        }
    }

    /// Waits for news of the warden, and for room where something waits to be said.
    fn sync_interest(&mut self, epoll: &Epoll) {
        let waits = self.holder.is_waiting();
        if waits != self.waits_for_room {
            let interest = if waits { Interest::READ_WRITE } else { Interest::READ };
            let modify =
                |channel: BorrowedFd<'_>| epoll.modify(channel, Token::Warden.into(), interest);
            let _ = self.holder.with_channel(modify);
            self.waits_for_room = waits;
        }
    }

    /// Executes this program again as a warden; returns only if that fails, with why.
    fn become_warden(&mut self, descriptor_limit: Option<DescriptorLimit>) -> String {
        let failed = |what: &str, error: Errno| format!("cannot {what}: {error}");
        let prepared = (|| {
            let hand_over = self.holder.hand_over();
            let file = hand_over.map_err(|error| failed("hand on what is held", error))?;
            // Under the number that the warden had given it.
            rustix::io::dup3(&file, &mut self.file, DupFlags::empty())
                .map_err(|error| failed("hand on a file", Errno(error.raw_os_error())))?;
            exec::own_program().map_err(|error| failed("open the program", error))
        })();
        match prepared {
            Ok(file) => {
                let arguments = self.warden_arguments();
                let environment = std::env::vars_os().map(|(key, value)| {
                    Cow::Owned([key.as_bytes(), b"=", value.as_bytes()].concat())
                });
                let environment: Vec<Cow<'_, [u8]>> = environment.collect();
                let program = Program {
                    file: Some(file),
                    arguments: &arguments,
                    environment: &environment,
                    descriptor_limit,
                };
                failed("execute the program", exec::exec(&program))
            }
            Err(why) => why,
        }
    }

    /// Returns the words of a warden that goes on with this estate.
    fn warden_arguments(&self) -> Vec<Vec<u8>> {
        let program = std::env::args_os().next().unwrap_or_else(|| "keepd".into());
        let words = self.holder.with_estate(|estate| estate.warden.clone()).unwrap_or_default();
        let estate = [b"--estate".to_vec(), self.file.as_raw_fd().to_string().into_bytes()];
        [program.into_vec()].into_iter().chain(words).chain(estate).collect()
    }
}

impl Shell {
    /// Returns who holds descriptors for a successor, if anybody does.
    pub(crate) fn holder(&self) -> Holder {
        self.link.as_ref().map_or_else(Holder::none, |link| link.holder.clone())
    }

    /// Says that the loop is reached, and listens for news of the warden.
    pub(crate) fn greet_warden(&mut self) {
        let Some(link) = &self.link else {
            return;
        };
        let token = Token::Warden.into();
        let added = link.holder.with_channel(|it| self.epoll.add(it, token, Interest::READ));
        let said = link.holder.say(&ToWarden::Ready);
        if let Err(error) = added.unwrap_or(Ok(())).and(said) {
            self.say(LogLevel::Error, format_args!("cannot wait for the warden: {error}"));
        }
    }

    /// Ends a turn for the warden: says what waits, and takes its place if it is gone.
    pub(crate) fn hear_warden(&mut self, is_lost: bool) {
        let Some(link) = &mut self.link else {
            return;
        };
        link.holder.flush();
        link.sync_interest(&self.epoll);
        if let Some(error) = link.holder.take_failure() {
            let text = format_args!("cannot let the warden hold a descriptor: {error}");
            self.log.say(LogLevel::Error, text);
        }
        if is_lost {
            self.take_the_place_of_the_warden();
        }
    }

    /// The end begins: says so to the warden, if it was asked for. Returns whether nobody comes
    /// after this process, which then leaves nothing behind.
    pub(crate) fn take_leave(&mut self, ending: Ending) -> bool {
        let code = match ending {
            Ending::Asked(code) => code,
            // Another one takes over what there is.
            Ending::Fatal(_) => return self.link.is_none(),
        };
        if let Some(link) = &self.link {
            let arguments = std::mem::take(&mut self.exit.arguments);
            let said = link.holder.say(&match arguments.is_empty() {
                true => ToWarden::Exit(code),
                false => ToWarden::Exec { code, arguments },
            });
            link.finish();
            if let Err(error) = said {
                let text = format_args!("cannot tell the warden of the end: {error}");
                self.log.say(LogLevel::Error, text);
            }
        }
        if let Some(ledger) = &self.ledger {
            ledger.remove();
        }
        true
    }

    /// Becomes the warden, by executing this program again: same process, same children, same
    /// descriptors under their numbers.
    fn take_the_place_of_the_warden(&mut self) {
        self.say(LogLevel::Warning, "the warden was lost: taking its place");
        self.flush_journal();
        self.pump.drain_all(&self.epoll, self.now);
        self.log.flush(None, self.now.monotonic);
        let Some(mut link) = self.link.take() else {
            return;
        };
        let _ = link.holder.with_channel(|channel| self.epoll.remove(channel));
        let error = link.become_warden(self.exit.descriptor_limit);
        // Nobody is above us; what runs goes on as if nobody had ever been.
        self.exit.has_warden = false;
        self.exit.prepare_rescue(&mut self.log);
        self.say(LogLevel::Error, format_args!("cannot take the place of the warden: {error}"));
    }
}
