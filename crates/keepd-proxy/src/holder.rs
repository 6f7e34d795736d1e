//! Descriptors of which the warden has a copy, so that a successor finds them: what is made is
//! held, and what is closed is dropped, wherever that happens.
//!
//! Without a warden nothing is held, and everything works the same.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use keepd_model::Errno;
use keepd_os::channel::{Channel, Sent};
use keepd_os::held::{self, HELD_BASE};
use keepd_os::memfd;

use crate::channel::ToWarden;
use crate::estate::{Entry, Estate, Label};

/// The way to the warden; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Holder {
    shared: Option<Rc<RefCell<Shared>>>,
}

#[derive(Debug)]
struct Shared {
    channel: Channel,
    /// What the warden has, or will have once everything is sent.
    estate: Estate,
    /// What found no room, oldest first. At most one "drop" and one "hold" of each number, and the
    /// words of the start and the end.
    waiting: VecDeque<Waiting>,
    /// Why something could not be held, since the last question.
    failure: Option<Errno>,
    /// Why the last descriptor could not be held, if that was so.
    refused: Option<Errno>,
    /// Nobody hears us any more.
    is_lost: bool,
}

#[derive(Debug)]
struct Waiting {
    message: Vec<u8>,
    /// Of which number it speaks, and what is to be held.
    about: Option<(RawFd, Option<OwnedFd>)>,
}

/// A descriptor that the warden has as well, if there is one: closed and dropped together.
#[derive(Debug)]
pub struct Held {
    /// `None` only while it is dropped or given away.
    descriptor: Option<OwnedFd>,
    /// Empty: the warden does not have it.
    holder: Holder,
}

/// What a predecessor left to its successor.
#[derive(Debug, Default)]
pub struct Inheritance {
    /// What is held, by its number.
    pub held: BTreeMap<RawFd, (Label, Held)>,
    /// All others, whose numbers are below those of held ones.
    pub rest: Vec<OwnedFd>,
}

impl Holder {
    /// Returns one without a warden.
    pub fn none() -> Self {
        Self::default()
    }

    /// Returns one for this warden, which has what the estate says.
    pub fn new(channel: Channel, estate: Estate) -> Self {
        let waiting = VecDeque::new();
        let shared =
            Shared { channel, estate, waiting, failure: None, refused: None, is_lost: false };
        Self { shared: Some(Rc::new(RefCell::new(shared))) }
    }

    /// Sorts what was open at the start. What has no label is closed, here and in the warden.
    pub fn inherit(&self, open: Vec<OwnedFd>) -> Inheritance {
        let mut inheritance = Inheritance::default();
        for descriptor in open {
            let number = descriptor.as_raw_fd();
            if number < HELD_BASE || self.shared.is_none() {
                inheritance.rest.push(descriptor);
                continue;
            }
            let held = Held { descriptor: Some(descriptor), holder: self.clone() };
            if let Some(label) = self.label(number) {
                inheritance.held.insert(number, (label, held));
            }
        }
        self.forget_missing(&inheritance);
        inheritance
    }

    /// Takes out of the estate what it says and nobody has.
    fn forget_missing(&self, inheritance: &Inheritance) {
        if let Some(shared) = &self.shared {
            shared
                .borrow_mut()
                .estate
                .held
                .retain(|number, _| inheritance.held.contains_key(number));
        }
    }

    fn label(&self, number: RawFd) -> Option<Label> {
        self.shared.as_ref()?.borrow().estate.held.get(&number).cloned()
    }

    /// Gives the warden a copy of a descriptor, which has a number of those that are held from then
    /// on. If that cannot be, it stays as it is, and [`Holder::take_failure`] says why.
    pub fn hold(&self, label: Label, descriptor: OwnedFd) -> Held {
        let Some(shared) = &self.shared else {
            return Held::alone(descriptor);
        };
        // A statement of its own: the borrow ends before the failure is noted.
        let outcome = shared.borrow_mut().hold(label, &descriptor);
        let refused = outcome.as_ref().err().copied();
        let before = std::mem::replace(&mut shared.borrow_mut().refused, refused);
        match outcome {
            Ok(lifted) => Held { descriptor: Some(lifted), holder: self.clone() },
            Err(error) => {
                // Each one after it would say the same.
                if before != refused {
                    shared.borrow_mut().failure = Some(error);
                }
                Held::alone(descriptor)
            }
        }
    }

    /// Says something else. It is lost with the warden only.
    ///
    /// # Errors
    ///
    /// EMSGSIZE: it is longer than a message can be.
    pub fn say(&self, message: &ToWarden) -> Result<(), Errno> {
        let message = message.encode().map_err(|_| EMSGSIZE)?;
        if let Some(shared) = &self.shared {
            shared.borrow_mut().send(message, None);
        }
        Ok(())
    }

    /// Sends what waits, as far as there is room. Returns whether everything is sent.
    pub fn flush(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| shared.borrow_mut().flush())
    }

    /// Reports whether something waits for room: then the channel is to be watched for that.
    pub fn is_waiting(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| !shared.borrow().waiting.is_empty())
    }

    /// Returns why something could not be held since the last call.
    pub fn take_failure(&self) -> Option<Errno> {
        self.shared.as_ref()?.borrow_mut().failure.take()
    }

    /// Does something with the channel, such as to add it to an epoll set.
    pub fn with_channel<T>(&self, act: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
        let shared = self.shared.as_ref()?;
        Some(act(shared.borrow().channel.as_fd()))
    }

    /// Looks at the estate.
    pub fn with_estate<T>(&self, look: impl FnOnce(&Estate) -> T) -> Option<T> {
        let shared = self.shared.as_ref()?;
        Some(look(&shared.borrow().estate))
    }

    /// Makes everything that is held survive execve(2), and returns the estate as a file that does
    /// so as well: for the proxy that becomes the warden.
    ///
    /// # Errors
    ///
    /// There is no warden that could be followed (ENOTCONN), or no file.
    pub fn hand_over(&self) -> Result<OwnedFd, Errno> {
        let shared = self.shared.as_ref().ok_or(ENOTCONN)?.borrow();
        let file = memfd::create("keepd-estate")?;
        memfd::append(&file, &shared.estate.to_file())?;
        for number in shared.estate.held.keys() {
            held::set_close_on_exec(*number, false)?;
        }
        held::set_close_on_exec(file.as_raw_fd(), false)?;
        Ok(file)
    }

    fn release(&self, number: RawFd) {
        if let Some(shared) = &self.shared {
            shared.borrow_mut().release(number);
        }
    }
}

impl Shared {
    fn hold(&mut self, label: Label, descriptor: &OwnedFd) -> Result<OwnedFd, Errno> {
        let lifted = held::lift(descriptor)?;
        let number = lifted.as_raw_fd();
        let message = ToWarden::Hold(number, label.clone());
        let message = message.encode().map_err(|_| EMSGSIZE)?;
        self.send(message, Some((number, Some(&lifted))));
        self.estate.apply(Entry::Held(number, label));
        Ok(lifted)
    }

    fn release(&mut self, number: RawFd) {
        self.estate.apply(Entry::Dropped(number));
        let about = |waiting: &Waiting| waiting.about.as_ref().map(|(number, _)| *number);
        // What was never sent need not be taken back, but what it would have replaced.
        if let Some(index) = self.waiting.iter().rposition(|one| about(one) == Some(number)) {
            self.waiting.remove(index);
            return;
        }
        if let Ok(message) = ToWarden::Drop(number).encode() {
            self.send(message, Some((number, None)));
        }
    }

    fn send(&mut self, message: Vec<u8>, about: Option<(RawFd, Option<&OwnedFd>)>) {
        let descriptor = about.and_then(|(_, descriptor)| descriptor);
        if self.flush() && self.try_send(&message, descriptor.map(AsFd::as_fd)) {
            return;
        }
        // A copy, because the original may be closed before there is room.
        let copy = descriptor.map(OwnedFd::try_clone).transpose();
        match copy {
            Ok(copy) => {
                let about = about.map(|(number, _)| (number, copy));
                self.waiting.push_back(Waiting { message, about });
            }
            Err(error) => {
                self.failure = Some(Errno(error.raw_os_error().unwrap_or(Errno::EIO.0)));
            }
        }
    }

    /// Returns whether the message needs no further attempt.
    fn try_send(&mut self, message: &[u8], descriptor: Option<BorrowedFd<'_>>) -> bool {
        if self.is_lost {
            return true;
        }
        match self.channel.send(message, descriptor) {
            Ok(Sent::Done) => true,
            Ok(Sent::Full) => false,
            Err(_) => {
                // Its end is seen in the epoll set, and whoever follows it asks for the estate.
                self.is_lost = true;
                true
            }
        }
    }

    fn flush(&mut self) -> bool {
        while let Some(waiting) = self.waiting.pop_front() {
            let descriptor = waiting.about.as_ref().and_then(|(_, descriptor)| descriptor.as_ref());
            if !self.try_send(&waiting.message, descriptor.map(AsFd::as_fd)) {
                self.waiting.push_front(waiting);
                return false;
            }
        }
        true
    }
}

impl Held {
    /// Returns one that the warden does not have.
    pub fn alone(descriptor: OwnedFd) -> Self {
        Self { descriptor: Some(descriptor), holder: Holder::none() }
    }

    /// Lets the warden have it, unless it does. Its number changes.
    #[must_use]
    pub fn held_by(mut self, holder: &Holder, label: Label) -> Self {
        match (&self.holder.shared, self.descriptor.take()) {
            (None, Some(descriptor)) => holder.hold(label, descriptor),
            (_, descriptor) => {
                self.descriptor = descriptor;
                self
            }
        }
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_ref().expect("it is there until it is dropped").as_fd()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(descriptor) = self.descriptor.take() {
            let number = descriptor.as_raw_fd();
            // Closed first: what the warden hears is true.
            drop(descriptor);
            self.holder.release(number);
        }
    }
}

/// Message too long.
const EMSGSIZE: Errno = Errno(90);
/// Transport endpoint is not connected.
const ENOTCONN: Errno = Errno(107);

#[cfg(test)]
mod tests {
    use keepd_model::Pid;
    use keepd_os::channel::{MESSAGE_BYTES_MAX, Received};
    use rustix::io::fcntl_getfd;

    use super::*;

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    fn label(number: u32) -> Label {
        Label::Pidfd { pid: Pid::new(number).unwrap() }
    }

    fn with_warden() -> (Holder, Channel) {
        let (ours, theirs) = Channel::pair().unwrap();
        (Holder::new(ours, Estate::default()), theirs)
    }

    fn next(warden: &Channel) -> Option<(ToWarden, bool)> {
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        match warden.receive(&mut buffer).unwrap() {
            Received::Message { length, descriptor, is_cut: false } => {
                Some((ToWarden::decode(&buffer[..length]).unwrap(), descriptor.is_some()))
            }
            Received::Nothing => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_held_is_told_and_what_is_closed_too() {
        let (holder, warden) = with_warden();
        let held = holder.hold(Label::Lock, null());
        let number = held.as_fd().as_raw_fd();
        assert!(number >= HELD_BASE);
        assert_eq!(next(&warden), Some((ToWarden::Hold(number, Label::Lock), true)));
        let estate = || holder.with_estate(|estate| estate.held.clone()).unwrap();
        assert_eq!(estate(), BTreeMap::from([(number, Label::Lock)]));
        drop(held);
        assert_eq!(next(&warden), Some((ToWarden::Drop(number), false)));
        assert_eq!((estate(), next(&warden)), (BTreeMap::new(), None));
        assert_eq!((holder.is_waiting(), holder.take_failure()), (false, None));
    }

    #[test]
    fn what_cannot_be_held_goes_on_without_and_says_why() {
        let (holder, warden) = with_warden();
        let descriptor = null();
        let number = descriptor.as_raw_fd();
        let path = "x".repeat(MESSAGE_BYTES_MAX).into();
        let held = holder.hold(Label::Listener { path }, descriptor);
        assert_eq!(held.as_fd().as_raw_fd(), number);
        assert_eq!((holder.take_failure(), holder.take_failure()), (Some(EMSGSIZE), None));
        assert_eq!(next(&warden), None);
        assert_eq!(holder.with_estate(|estate| estate.held.len()), Some(0));
        let hold = |label| drop(holder.hold(label, null()));
        let too_long = || Label::Listener { path: "x".repeat(MESSAGE_BYTES_MAX).into() };
        hold(too_long());
        assert_eq!(holder.take_failure(), None, "it was said");
        hold(Label::Lock);
        hold(too_long());
        assert_eq!(holder.take_failure(), Some(EMSGSIZE), "it had been possible again");
    }

    #[test]
    fn without_a_warden_everything_stays_where_it_is() {
        let descriptor = null();
        let number = descriptor.as_raw_fd();
        let holder = Holder::none();
        let held = holder.hold(Label::Lock, descriptor);
        assert_eq!(held.as_fd().as_raw_fd(), number);
        assert!(holder.flush() && !holder.is_waiting());
        assert_eq!(holder.say(&ToWarden::Ready), Ok(()));
        assert!(holder.hand_over().is_err());
        assert_eq!(holder.inherit(vec![null()]).rest.len(), 1);
    }

    /// Fills the channel; returns how many messages are in it.
    fn fill(holder: &Holder) -> usize {
        let arguments = vec![vec![b'x'; 30_000]];
        let filler = ToWarden::Exec { code: 0, arguments };
        let mut count = 0;
        while !holder.is_waiting() {
            holder.say(&filler).unwrap();
            count += 1;
        }
        count
    }

    #[test]
    fn what_finds_no_room_waits_in_order_and_takes_no_more_room_than_there_are_numbers() {
        let (holder, warden) = with_warden();
        let before = holder.hold(label(1), null());
        let number = before.as_fd().as_raw_fd();
        let fillers = fill(&holder);
        drop(before);
        let again = holder.hold(label(2), null());
        // Somebody else of these tests may have taken the number meanwhile.
        let later = again.as_fd().as_raw_fd();
        for _ in 0..100 {
            drop(holder.hold(label(3), null()));
        }
        let waiting = holder.shared.as_ref().unwrap().borrow().waiting.len();
        assert!(waiting <= 3, "{waiting} messages wait");
        assert_eq!(next(&warden), Some((ToWarden::Hold(number, label(1)), true)));
        let mut rest = Vec::new();
        while !holder.flush() || rest.len() < fillers + 2 {
            rest.extend(next(&warden));
        }
        rest.extend(std::iter::from_fn(|| next(&warden)));
        let expected = [(ToWarden::Drop(number), false), (ToWarden::Hold(later, label(2)), true)];
        assert_eq!(rest[fillers..], expected);
    }

    #[test]
    fn a_warden_that_is_lost_stops_nobody() {
        let (holder, warden) = with_warden();
        drop(warden);
        let held = holder.hold(Label::Lock, null());
        assert!(holder.flush());
        let file = holder.hand_over().unwrap();
        let estate = Estate::read(&memfd::read_all(&file, 1000).unwrap());
        let number = held.as_fd().as_raw_fd();
        assert_eq!(estate.held, BTreeMap::from([(number, Label::Lock)]));
        assert!(fcntl_getfd(&held).unwrap().is_empty() && fcntl_getfd(&file).unwrap().is_empty());
    }

    #[test]
    fn a_successor_takes_what_has_a_label_and_closes_the_rest() {
        let (_, warden) = with_warden();
        let lifted = [null(), null()].map(|descriptor| held::lift(descriptor).unwrap());
        let [known, unknown] = lifted.each_ref().map(AsRawFd::as_raw_fd);
        let mut estate = Estate::default();
        estate.apply(Entry::Held(known, label(7)));
        estate.apply(Entry::Held(HELD_BASE + 100_000, Label::Lock));
        let (ours, theirs) = Channel::pair().unwrap();
        let holder = Holder::new(ours, estate);
        let own = null();
        let own_number = own.as_raw_fd();
        let [one, other] = lifted;
        let mut inheritance = holder.inherit(vec![own, one, other]);
        assert_eq!(inheritance.rest[0].as_raw_fd(), own_number);
        assert_eq!(next(&theirs), Some((ToWarden::Drop(unknown), false)));
        let (label, held) = inheritance.held.remove(&known).unwrap();
        assert_eq!((label, inheritance.held.len()), (self::label(7), 0));
        drop(held);
        assert_eq!(next(&theirs), Some((ToWarden::Drop(known), false)));
        assert_eq!(holder.with_estate(|estate| estate.held.len()), Some(0));
        drop(warden);
    }
}
