//! Things that are used again instead of made anew.
//!
//! A pool keeps at most a given number; what is returned beyond that is dropped, and who takes from
//! an empty pool gets something new. So a pool never makes anybody wait.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;

use crate::sync::Mutex;

/// What a returned text or list may have grown to, in multiples of its first capacity; a larger one
/// is dropped, so that one large use does not keep its memory for ever.
const GROWTH_MAX: usize = 16;

/// What has been returned, at most `max`.
struct Shelf<T> {
    items: Mutex<Vec<T>>,
    max: usize,
}

impl<T> Shelf<T> {
    fn new(initial: usize, max: usize, mut make: impl FnMut() -> T) -> Self {
        let count = initial.min(max);
        let items = std::iter::repeat_with(&mut make).take(count).collect();
        Self { items: Mutex::new(items), max }
    }

    fn take(&self) -> Option<T> {
        // A panic cannot leave a list half changed by `push` or `pop`.
        self.items.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put(&self, item: T) {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        if items.len() < self.max {
            items.push(item);
        }
    }

    fn describe(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let idle = self.items.lock().unwrap_or_else(PoisonError::into_inner).len();
        f.debug_struct(name).field("idle", &idle).field("max", &self.max).finish()
    }
}

/// A pool of anything. What is returned keeps its state.
///
/// ```
/// use keepd::ObjectPool;
///
/// let pool = ObjectPool::new(1, 8, || vec![0u8; 4096]);
/// let mut buffer = pool.get();
/// buffer[0] = 7;
/// buffer.return_to_pool();
/// assert_eq!(pool.get()[0], 7);
/// ```
pub struct ObjectPool<T: Send + 'static> {
    shelf: Shelf<T>,
    make: Box<dyn Fn() -> T + Send + Sync>,
}

impl<T: Send + 'static> fmt::Debug for ObjectPool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shelf.describe("ObjectPool", f)
    }
}

impl<T: Send + 'static> ObjectPool<T> {
    /// Returns a pool with `initial` objects, which keeps at most `max`.
    pub fn new<F>(initial: usize, max: usize, make: F) -> Self
    where
        F: Fn() -> T + Send + Sync + 'static,
    {
        Self { shelf: Shelf::new(initial, max, &make), make: Box::new(make) }
    }

    /// Takes an object, or makes one. It goes back when the guard is dropped.
    pub fn get(&self) -> PooledObject<'_, T> {
        let object = self.shelf.take().unwrap_or_else(|| (self.make)());
        PooledObject { object: Some(object), shelf: &self.shelf }
    }
}

/// An object of an [`ObjectPool`].
///
/// ```
/// let pool = keepd::ObjectPool::new(0, 1, || vec![0_u8; 16]);
/// assert_eq!(pool.get().len(), 16);
/// ```
pub struct PooledObject<'p, T: Send + 'static> {
    /// None only while it goes back.
    object: Option<T>,
    shelf: &'p Shelf<T>,
}

impl<T: Send + 'static> PooledObject<'_, T> {
    /// Gives the object back, as dropping does.
    pub fn return_to_pool(self) {
        drop(self);
    }
}

/// Says why a guard cannot be empty.
const PRESENT: &str = "the object leaves its guard only when the guard is dropped";

impl<T: Send + 'static> Deref for PooledObject<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.object.as_ref().expect(PRESENT)
    }
}

impl<T: Send + 'static> DerefMut for PooledObject<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.object.as_mut().expect(PRESENT)
    }
}

impl<T: Send + 'static> Drop for PooledObject<'_, T> {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            self.shelf.put(object);
        }
    }
}

impl<T: fmt::Debug + Send + 'static> fmt::Debug for PooledObject<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PooledObject").field(&**self).finish()
    }
}

/// A pool of texts. What is returned is emptied and keeps its memory.
///
/// ```
/// use keepd::StringPool;
///
/// let pool = StringPool::new(4, 16, 64);
/// let mut text = pool.get_with_value("hello");
/// text.push_str(", world");
/// assert_eq!(text.to_string(), "hello, world");
/// drop(text);
/// assert!(pool.get().is_empty());
/// ```
pub struct StringPool {
    shelf: Shelf<String>,
    capacity: usize,
}

impl fmt::Debug for StringPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shelf.describe("StringPool", f)
    }
}

impl StringPool {
    /// Returns a pool with `initial` texts with room for `capacity` bytes each, which keeps at most
    /// `max`.
    pub fn new(initial: usize, max: usize, capacity: usize) -> Self {
        let shelf = Shelf::new(initial, max, || String::with_capacity(capacity));
        Self { shelf, capacity }
    }

    /// Takes an empty text. It goes back when the guard is dropped.
    pub fn get(&self) -> PooledString<'_> {
        let text = self.shelf.take().unwrap_or_else(|| String::with_capacity(self.capacity));
        PooledString { text, pool: self }
    }

    /// Takes a text with a value.
    pub fn get_with_value<S: AsRef<str>>(&self, value: S) -> PooledString<'_> {
        let mut text = self.get();
        text.push_str(value.as_ref());
        text
    }
}

/// A text of a [`StringPool`].
///
/// ```
/// let pool = keepd::StringPool::new(0, 1, 16);
/// assert_eq!(pool.get_with_value("hello").len(), 5);
/// ```
pub struct PooledString<'p> {
    text: String,
    pool: &'p StringPool,
}

impl PooledString<'_> {
    /// Gives the text back, as dropping does.
    pub fn return_to_pool(self) {
        drop(self);
    }
}

impl Deref for PooledString<'_> {
    type Target = String;

    fn deref(&self) -> &String {
        &self.text
    }
}

impl DerefMut for PooledString<'_> {
    fn deref_mut(&mut self) -> &mut String {
        &mut self.text
    }
}

impl Drop for PooledString<'_> {
    fn drop(&mut self) {
        let mut text = std::mem::take(&mut self.text);
        if is_worth_keeping(text.capacity(), self.pool.capacity) {
            text.clear();
            self.pool.shelf.put(text);
        }
    }
}

impl fmt::Display for PooledString<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl fmt::Debug for PooledString<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PooledString").field(&self.text).finish()
    }
}

/// A pool of lists. What is returned is emptied and keeps its memory.
///
/// ```
/// use keepd::VecPool;
///
/// let pool: VecPool<u32> = VecPool::new(4, 16, 64);
/// let mut numbers = pool.get();
/// numbers.push(1);
/// numbers.return_to_pool();
/// assert!(pool.get().is_empty());
/// ```
pub struct VecPool<T: Send + 'static> {
    shelf: Shelf<Vec<T>>,
    capacity: usize,
}

impl<T: Send + 'static> fmt::Debug for VecPool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shelf.describe("VecPool", f)
    }
}

impl<T: Send + 'static> VecPool<T> {
    /// Returns a pool with `initial` lists with room for `capacity` items each, which keeps at most
    /// `max`.
    pub fn new(initial: usize, max: usize, capacity: usize) -> Self {
        let shelf = Shelf::new(initial, max, || Vec::with_capacity(capacity));
        Self { shelf, capacity }
    }

    /// Takes an empty list. It goes back when the guard is dropped.
    pub fn get(&self) -> PooledVec<'_, T> {
        let items = self.shelf.take().unwrap_or_else(|| Vec::with_capacity(self.capacity));
        PooledVec { items, pool: self }
    }
}

/// A list of a [`VecPool`].
///
/// ```
/// let pool = keepd::VecPool::<u8>::new(0, 1, 16);
/// let mut bytes = pool.get();
/// bytes.push(1);
/// assert_eq!(*bytes, [1]);
/// ```
pub struct PooledVec<'p, T: Send + 'static> {
    items: Vec<T>,
    pool: &'p VecPool<T>,
}

impl<T: Send + 'static> PooledVec<'_, T> {
    /// Gives the list back, as dropping does.
    pub fn return_to_pool(self) {
        drop(self);
    }
}

impl<T: Send + 'static> Deref for PooledVec<'_, T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.items
    }
}

impl<T: Send + 'static> DerefMut for PooledVec<'_, T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.items
    }
}

impl<T: Send + 'static> Drop for PooledVec<'_, T> {
    fn drop(&mut self) {
        let mut items = std::mem::take(&mut self.items);
        // Before the lock: dropping items is code of somebody else.
        items.clear();
        if is_worth_keeping(items.capacity(), self.pool.capacity) {
            self.pool.shelf.put(items);
        }
    }
}

impl<T: fmt::Debug + Send + 'static> fmt::Debug for PooledVec<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PooledVec").field(&self.items).finish()
    }
}

const fn is_worth_keeping(capacity: usize, first: usize) -> bool {
    capacity <= first.saturating_mul(GROWTH_MAX)
}

#[cfg(all(test, keepd_loom))]
mod loom_models {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn nobody_gets_what_another_has_and_no_more_is_kept_than_allowed() {
        loom::model(|| {
            let pool = Arc::new(VecPool::<u8>::new(1, 1, 4));
            let use_one = |pool: &VecPool<u8>, number| {
                let mut items = pool.get();
                assert!(items.is_empty());
                items.push(number);
                assert_eq!(*items, [number]);
            };
            let other = {
                let pool = Arc::clone(&pool);
                loom::thread::spawn(move || use_one(&pool, 1))
            };
            use_one(&pool, 2);
            other.join().unwrap();
            assert_eq!(format!("{pool:?}"), "VecPool { idle: 1, max: 1 }");
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn no_more_are_made_than_are_used_at_once_and_no_more_kept_than_allowed() {
        let made = Arc::new(AtomicUsize::new(0));
        let pool = {
            let made = Arc::clone(&made);
            ObjectPool::new(2, 3, move || made.fetch_add(1, Ordering::Relaxed))
        };
        assert_eq!(made.load(Ordering::Relaxed), 2);
        let taken: Vec<_> = (0..5).map(|_| pool.get()).collect();
        assert_eq!(made.load(Ordering::Relaxed), 5);
        drop(taken);
        assert_eq!(format!("{pool:?}"), "ObjectPool { idle: 3, max: 3 }");
        let again: Vec<_> = (0..3).map(|_| pool.get()).collect();
        assert_eq!((again.len(), made.load(Ordering::Relaxed)), (3, 5));
    }

    #[test]
    fn texts_and_lists_come_back_empty_and_one_that_grew_does_not_stay() {
        let pool = StringPool::new(1, 4, 8);
        pool.get_with_value("x".repeat(100)).return_to_pool();
        assert_eq!(format!("{pool:?}"), "StringPool { idle: 1, max: 4 }");
        assert!(pool.get().is_empty() && pool.get().capacity() >= 100);
        pool.get_with_value("x".repeat(1000)).return_to_pool();
        assert_eq!(format!("{pool:?}"), "StringPool { idle: 0, max: 4 }");
        let lists: VecPool<String> = VecPool::new(0, 4, 8);
        lists.get().push("x".to_owned());
        assert!(lists.get().is_empty());
    }

    #[test]
    fn more_at_first_than_at_most_is_at_most() {
        assert_eq!(format!("{:?}", StringPool::new(9, 2, 8)), "StringPool { idle: 2, max: 2 }");
    }
}
