//! Who takes part in a shutdown, and who waits for it: the table behind the handles.
//!
//! Pure: no clock and no lock. Wakers go in, and those that are due come out.
#![cfg_attr(
    all(not(feature = "tokio"), not(test)),
    expect(dead_code, reason = "only the managers of subsystems use all of it")
)]

use std::sync::Arc;
use std::task::Waker;

/// The parent of a participant that has none.
const NONE: u32 = u32::MAX;

/// This one alone was asked to end.
const ALONE: u8 = 1;
/// Others have to end before this one may be asked.
const HELD: u8 = 1 << 1;
/// Its work is done.
const READY: u8 = 1 << 2;
/// A manager keeps it; otherwise it goes with its last handle.
const KEPT: u8 = 1 << 3;
/// Others name it as their parent.
const HAS_CHILDREN: u8 = 1 << 4;
/// The place for a waker in it belongs to a wait that is not over.
const WAITED: u8 = 1 << 5;

/// In a generation: a manager keeps the participant, so that nobody has to count its handles.
const KEPT_GENERATION: u32 = 1 << 31;

/// One participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// Returns the place in the table.
    pub(crate) const fn index(self) -> u32 {
        self.index
    }

    /// Reports whether the participant stays whoever holds handles.
    pub(super) const fn is_kept(self) -> bool {
        self.generation & KEPT_GENERATION != 0
    }
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The participant is asked to end.
    Cancelled(Key),
    /// A shutdown begins.
    Begun,
    /// The force phase begins.
    Forced,
    /// Every participant is ready.
    Complete,
}

/// Where a waker is kept, so that it can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the participant itself.
    Inline(Key),
    /// In the list.
    Listed(u32),
}

impl Place {
    pub(super) const fn is_inline(self) -> bool {
        matches!(self, Self::Inline(_))
    }
}

/// The name is absent where the entry is free.
#[derive(Debug)]
struct Entry {
    name: Option<Arc<str>>,
    /// The first that waits for the cancellation; more of them are in the list.
    waker: Option<Waker>,
    handles: u32,
    generation: u32,
    parent: u32,
    flags: u8,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Slots {
    entries: Vec<Entry>,
    free: Vec<u32>,
    present: usize,
    ready: usize,
    alone: u32,
    held: u32,
    list: Vec<Option<(Event, Waker)>>,
    list_free: Vec<u32>,
}

impl Slots {
    /// Adds a participant with one handle; handles of one that is `kept` are not counted.
    pub(super) fn insert(&mut self, name: Arc<str>, kept: bool, parent: Option<Key>) -> Key {
        let parent = parent.filter(|key| self.entry(*key).is_some());
        if let Some(parent) = parent {
            self.entries[parent.index as usize].flags |= HAS_CHILDREN;
        }
        let mut entry = Entry {
            name: Some(name),
            waker: None,
            handles: 1,
            generation: if kept { KEPT_GENERATION } else { 0 },
            parent: parent.map_or(NONE, |key| key.index),
            flags: if kept { KEPT } else { 0 },
        };
        self.present += 1;
        if let Some(index) = self.free.pop() {
            entry.generation |= self.entries[index as usize].generation;
            let generation = entry.generation;
            self.entries[index as usize] = entry;
            return Key { index, generation };
        }
        let index = u32::try_from(self.entries.len()).expect("fewer than 2^32 participants");
        let generation = entry.generation;
        self.entries.push(entry);
        Key { index, generation }
    }

    /// Notes one handle more.
    pub(super) fn retain(&mut self, key: Key) {
        if let Some(entry) = self.entry_mut(key) {
            entry.handles += 1;
        }
    }

    /// Notes one handle less. With the last one a participant that nobody keeps is done: it goes,
    /// or counts as ready where `begun` says that a shutdown counts them. Returns whom to wake.
    pub(super) fn release(&mut self, key: Key, begun: bool) -> Vec<Waker> {
        let Some(entry) = self.entry_mut(key) else { return Vec::new() };
        entry.handles = entry.handles.saturating_sub(1);
        if entry.handles > 0 || entry.flags & KEPT != 0 {
            return Vec::new();
        }
        if begun {
            self.set_ready(key, true);
            return Vec::new();
        }
        self.remove(key)
    }

    /// Takes a participant out of the table; returns whom to wake, because one that has gone counts
    /// as asked.
    pub(super) fn remove(&mut self, key: Key) -> Vec<Waker> {
        let Some(entry) = self.entry_mut(key) else { return Vec::new() };
        entry.name = None;
        let inline = entry.waker.take();
        entry.generation = entry.generation.wrapping_add(1) & !KEPT_GENERATION;
        let flags = std::mem::take(&mut entry.flags);
        self.present -= 1;
        self.ready -= usize::from(flags & READY != 0);
        self.alone -= u32::from(flags & ALONE != 0);
        self.held -= u32::from(flags & HELD != 0);
        if flags & HAS_CHILDREN != 0 {
            for entry in &mut self.entries {
                if entry.parent == key.index {
                    entry.parent = NONE;
                }
            }
        }
        self.free.push(key.index);
        inline.into_iter().chain(self.listed(|event| event == Event::Cancelled(key))).collect()
    }

    /// Marks a participant as done, or as not done again.
    pub(super) fn set_ready(&mut self, key: Key, ready: bool) {
        let Some(entry) = self.entry_mut(key) else { return };
        if (entry.flags & READY != 0) == ready {
            return;
        }
        entry.flags ^= READY;
        self.ready = if ready { self.ready + 1 } else { self.ready - 1 };
    }

    /// Asks one participant alone to end, or takes that back.
    pub(super) fn set_alone(&mut self, key: Key, alone: bool) {
        let Some(entry) = self.entry_mut(key) else { return };
        if (entry.flags & ALONE != 0) == alone {
            return;
        }
        entry.flags ^= ALONE;
        self.alone = if alone { self.alone + 1 } else { self.alone - 1 };
    }

    /// Keeps the shutdown of all away from one participant, or lets it come.
    pub(super) fn set_held(&mut self, key: Key, held: bool) {
        let Some(entry) = self.entry_mut(key) else { return };
        if (entry.flags & HELD != 0) == held {
            return;
        }
        entry.flags ^= HELD;
        self.held = if held { self.held + 1 } else { self.held - 1 };
    }

    /// Returns how many were asked to end alone, and how many are held. While both are zero, the
    /// word alone answers whether a participant is asked to end.
    pub(super) const fn exceptions(&self) -> (u32, u32) {
        (self.alone, self.held)
    }

    /// Reports whether this participant is asked to end; `begun` says whether all are. One that has
    /// gone is asked.
    pub(super) fn is_cancelled(&self, key: Key, begun: bool) -> bool {
        let Some(mut entry) = self.entry(key) else { return true };
        loop {
            if entry.flags & ALONE != 0 {
                return true;
            }
            if entry.flags & HELD != 0 {
                return false;
            }
            if entry.parent == NONE {
                return begun;
            }
            entry = &self.entries[entry.parent as usize];
        }
    }

    /// Reports whether all that take part are done. Nobody at all is done.
    pub(super) const fn is_complete(&self) -> bool {
        self.ready == self.present
    }

    /// Returns how many take part, and how many of them are done.
    pub(super) const fn counts(&self) -> (usize, usize) {
        (self.present, self.ready)
    }

    /// Returns each participant's name and whether it is done, oldest place first.
    pub(super) fn states(&self) -> Vec<(String, bool)> {
        let state = |entry: &Entry| {
            let name = entry.name.as_deref()?;
            Some((name.to_owned(), entry.flags & READY != 0))
        };
        self.entries.iter().filter_map(state).collect()
    }

    /// Returns the name of a participant.
    pub(super) fn name(&self, key: Key) -> Option<Arc<str>> {
        self.entry(key)?.name.clone()
    }

    /// Keeps the waker of a wait that is not kept yet.
    pub(super) fn wait(&mut self, event: Event, waker: Waker) -> Place {
        if let Event::Cancelled(key) = event
            && let Some(entry) = self.entry_mut(key)
            && entry.flags & WAITED == 0
        {
            entry.flags |= WAITED;
            entry.waker = Some(waker);
            return Place::Inline(key);
        }
        let listed = Some((event, waker));
        if let Some(index) = self.list_free.pop() {
            self.list[index as usize] = listed;
            return Place::Listed(index);
        }
        self.list.push(listed);
        Place::Listed(u32::try_from(self.list.len() - 1).expect("fewer than 2^32 waits"))
    }

    /// Replaces the waker of a wait; returns the old one, which the caller drops without the lock.
    pub(super) fn wait_again(&mut self, place: Place, waker: Waker) -> Option<Waker> {
        match place {
            Place::Inline(key) => self.entry_mut(key)?.waker.replace(waker),
            Place::Listed(index) => {
                let (_, kept) = self.list[index as usize].as_mut()?;
                Some(std::mem::replace(kept, waker))
            }
        }
    }

    /// Forgets the waker of a wait that is over; returns it, because whoever drops the last waker
    /// of a task may drop the task, and with it a handle, which needs the lock.
    pub(super) fn forget(&mut self, place: Place) -> Option<Waker> {
        match place {
            Place::Inline(key) => {
                let entry = self.entry_mut(key)?;
                entry.flags &= !WAITED;
                entry.waker.take()
            }
            Place::Listed(index) => {
                self.list_free.push(index);
                self.list[index as usize].take().map(|(_, waker)| waker)
            }
        }
    }

    /// Takes the wakers of everybody who waits for a cancellation that is true now, and of those
    /// who wait for the beginning.
    pub(super) fn due_on_begin(&mut self) -> Vec<Waker> {
        let mut due = self.due_inline(true);
        due.extend(self.listed(|event| match event {
            Event::Cancelled(key) => self.is_cancelled(key, true),
            Event::Begun => true,
            Event::Forced | Event::Complete => false,
        }));
        due
    }

    /// Takes the wakers of those who wait for the cancellation of this participant or of one below
    /// it.
    pub(super) fn due_on_cancel(&mut self, key: Key, begun: bool) -> Vec<Waker> {
        let Some(entry) = self.entry_mut(key) else { return Vec::new() };
        if entry.flags & HAS_CHILDREN != 0 {
            // Those that were asked before are woken once more than needed, which does no harm.
            let mut due = self.due_inline(begun);
            due.extend(self.listed(|event| match event {
                Event::Cancelled(key) => self.is_cancelled(key, begun),
                Event::Begun | Event::Forced | Event::Complete => false,
            }));
            return due;
        }
        let inline = entry.waker.take();
        let listed = self.listed(|event| event == Event::Cancelled(key));
        inline.into_iter().chain(listed).collect()
    }

    /// Takes the wakers that are in participants who are asked to end now. Their places stay with
    /// the waits, which give them back.
    fn due_inline(&mut self, begun: bool) -> Vec<Waker> {
        let mut due = Vec::new();
        for index in 0..self.entries.len() {
            let entry = &self.entries[index];
            let key = Key { index: index as u32, generation: entry.generation };
            if entry.waker.is_some() && self.is_cancelled(key, begun) {
                due.extend(self.entries[index].waker.take());
            }
        }
        due
    }

    /// Returns the wakers of those who wait for exactly this.
    pub(super) fn due_on(&self, wanted: Event) -> Vec<Waker> {
        self.listed(|event| event == wanted).collect()
    }

    fn listed(&self, is_due: impl Fn(Event) -> bool) -> impl Iterator<Item = Waker> {
        self.list.iter().flatten().filter(move |(event, _)| is_due(*event)).map(|(_, w)| w.clone())
    }

    fn entry(&self, key: Key) -> Option<&Entry> {
        let entry = self.entries.get(key.index as usize)?;
        (entry.generation == key.generation && entry.name.is_some()).then_some(entry)
    }

    fn entry_mut(&mut self, key: Key) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(key.index as usize)?;
        (entry.generation == key.generation && entry.name.is_some()).then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(slots: &mut Slots, name: &str, parent: Option<Key>) -> Key {
        slots.insert(name.into(), false, parent)
    }

    #[test]
    fn the_last_handle_takes_its_participant_along() {
        let mut slots = Slots::default();
        let key = insert(&mut slots, "a", None);
        slots.retain(key);
        slots.release(key, false);
        assert_eq!(slots.counts(), (1, 0));
        slots.release(key, false);
        assert_eq!(slots.counts(), (0, 0));
        let next = insert(&mut slots, "b", None);
        assert_ne!(next, key, "the place is used again under another key");
        slots.set_ready(key, true);
        assert_eq!(slots.counts(), (1, 0), "news of one that has gone is dropped");
    }

    #[test]
    fn the_key_says_who_is_kept_also_where_a_place_is_used_again() {
        let mut slots = Slots::default();
        let kept = slots.insert("kept".into(), true, None);
        slots.remove(kept);
        let counted = insert(&mut slots, "counted", None);
        assert_eq!((kept.is_kept(), counted.is_kept()), (true, false));
        assert_eq!(kept.index(), counted.index());
        slots.set_ready(kept, true);
        assert_eq!(slots.counts(), (1, 0), "news of the one that has gone is dropped");
        slots.release(counted, false);
        let again = slots.insert("again".into(), true, None);
        assert!(again.is_kept() && again != kept);
    }

    #[test]
    fn in_a_shutdown_the_last_handle_means_done() {
        let mut slots = Slots::default();
        let key = insert(&mut slots, "a", None);
        slots.release(key, true);
        assert_eq!(slots.states(), [("a".to_owned(), true)]);
        assert!(slots.is_complete());
    }

    #[test]
    fn a_held_one_is_not_asked_and_what_is_below_it_neither() {
        let mut slots = Slots::default();
        let parent = insert(&mut slots, "parent", None);
        let child = insert(&mut slots, "child", Some(parent));
        slots.set_held(parent, true);
        assert!(!slots.is_cancelled(child, true));
        slots.set_held(parent, false);
        assert!(slots.is_cancelled(child, true));
        assert!(!slots.is_cancelled(child, false));
        slots.set_alone(parent, true);
        assert!(slots.is_cancelled(child, false), "it follows the one above");
        assert_eq!(slots.exceptions(), (1, 0));
    }

    #[test]
    fn a_child_outlives_the_entry_of_its_parent() {
        let mut slots = Slots::default();
        let parent = insert(&mut slots, "parent", None);
        let child = insert(&mut slots, "child", Some(parent));
        slots.set_alone(parent, true);
        slots.remove(parent);
        assert_eq!(slots.exceptions(), (0, 0));
        assert!(!slots.is_cancelled(child, false));
        insert(&mut slots, "other", None);
        assert!(slots.is_cancelled(child, true));
    }

    #[test]
    fn waits_are_woken_by_their_event_only_and_leave_no_trace() {
        let mut slots = Slots::default();
        let waker = || Waker::noop().clone();
        let (first, second) = (insert(&mut slots, "1", None), insert(&mut slots, "2", None));
        let one = slots.wait(Event::Cancelled(first), waker());
        assert_eq!(one, Place::Inline(first));
        let two = slots.wait(Event::Cancelled(first), waker());
        assert!(slots.wait_again(two, waker()).is_some());
        let begun = slots.wait(Event::Begun, waker());
        slots.wait(Event::Cancelled(second), waker());
        let forced = slots.wait(Event::Forced, waker());
        assert_eq!(slots.due_on_cancel(first, false).len(), 2);
        assert_eq!(slots.wait(Event::Cancelled(first), waker()), Place::Listed(3));
        assert_eq!(slots.due_on_begin().len(), 4, "the first of them is awake");
        assert_eq!(slots.due_on(Event::Forced).len(), 1);
        for place in [one, two, begun, forced] {
            slots.forget(place);
        }
        assert_eq!(slots.due_on_begin().len(), 1);
        assert_eq!(slots.wait(Event::Complete, waker()), forced, "places are used again");
    }
}
