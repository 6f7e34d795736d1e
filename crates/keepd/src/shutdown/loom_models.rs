//! Small programs about a shutdown, run in every order that their threads can take. A wait whose
//! waker is lost shows as a deadlock.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use loom::future::block_on;
use loom::thread;

use super::handle::Wait;
use super::slots::{Event, Key};
use super::{ShutdownCoordinator, ShutdownHandle, ShutdownReason};

fn coordinator() -> ShutdownCoordinator {
    ShutdownCoordinator::new(1, 2, 3)
}

/// Adds a participant of a manager.
fn kept(coordinator: &ShutdownCoordinator) -> (Key, ShutdownHandle) {
    let key = coordinator.insert("kept".into());
    (key, coordinator.handle(key))
}

fn spawn_with<T: 'static>(
    coordinator: &ShutdownCoordinator,
    body: impl FnOnce(&ShutdownCoordinator) -> T + 'static,
) -> thread::JoinHandle<T> {
    let coordinator = coordinator.clone();
    thread::spawn(move || body(&coordinator))
}

#[test]
fn a_wait_that_begins_with_the_request_is_woken() {
    loom::model(|| {
        let coordinator = coordinator();
        let mut handle = coordinator.create_handle("one");
        let asking = spawn_with(&coordinator, |coordinator| {
            assert!(coordinator.initiate_shutdown(ShutdownReason::Requested));
        });
        block_on(handle.cancelled());
        assert_eq!(handle.shutdown_reason(), Some(ShutdownReason::Requested));
        asking.join().unwrap();
    });
}

#[test]
fn one_of_two_requests_is_the_first_and_gives_the_reason() {
    loom::model(|| {
        let coordinator = coordinator();
        let other = spawn_with(&coordinator, |coordinator| {
            coordinator.initiate_shutdown(ShutdownReason::Signal(15))
        });
        let mine = coordinator.initiate_shutdown(ShutdownReason::Requested);
        let reason = coordinator.get_reason();
        let theirs = other.join().unwrap();
        assert_ne!(mine, theirs);
        let expected = if mine { ShutdownReason::Requested } else { ShutdownReason::Signal(15) };
        assert_eq!((reason, coordinator.get_reason()), (Some(expected), Some(expected)));
    });
}

#[test]
fn whoever_sees_the_request_sees_its_reason_and_time() {
    loom::model(|| {
        let coordinator = coordinator();
        let handle = coordinator.create_handle("one");
        let asking = spawn_with(&coordinator, |coordinator| {
            coordinator.initiate_shutdown(ShutdownReason::Error);
        });
        if handle.is_shutdown() {
            assert_eq!(handle.shutdown_reason(), Some(ShutdownReason::Error));
            assert!(handle.shutdown_time().is_some());
        }
        asking.join().unwrap();
    });
}

#[test]
fn one_that_is_let_go_during_the_request_is_woken() {
    loom::model(|| {
        let coordinator = coordinator();
        let (key, mut handle) = kept(&coordinator);
        coordinator.hold(key, true);
        let releasing = spawn_with(&coordinator, move |coordinator| coordinator.hold(key, false));
        let asking = spawn_with(&coordinator, |coordinator| {
            coordinator.initiate_shutdown(ShutdownReason::Requested);
        });
        block_on(handle.cancelled());
        assert!(handle.is_shutdown());
        releasing.join().unwrap();
        asking.join().unwrap();
    });
}

#[test]
fn one_that_is_asked_alone_is_woken_and_the_others_are_not_asked() {
    loom::model(|| {
        let coordinator = coordinator();
        let (key, mut handle) = kept(&coordinator);
        let (_, other) = kept(&coordinator);
        let asking = spawn_with(&coordinator, move |coordinator| coordinator.cancel(key));
        block_on(handle.cancelled());
        assert!(handle.is_shutdown() && !other.is_shutdown());
        assert_eq!(handle.shutdown_reason(), None);
        asking.join().unwrap();
    });
}

#[test]
fn the_end_of_the_last_one_is_seen_whether_it_comes_before_or_after_the_request() {
    loom::model(|| {
        let coordinator = coordinator();
        let handle = coordinator.create_handle("one");
        let ending = thread::spawn(move || drop(handle));
        coordinator.initiate_shutdown(ShutdownReason::Requested);
        let core = coordinator.create_handle("waits");
        core.ready();
        block_on(Wait::new(core.parts().0, Event::Complete));
        ending.join().unwrap();
    });
}

#[test]
fn a_wait_that_is_dropped_during_the_request_leaves_nothing() {
    loom::model(|| {
        let coordinator = coordinator();
        let mut handle = coordinator.create_handle("one");
        let asking = spawn_with(&coordinator, |coordinator| {
            coordinator.initiate_shutdown(ShutdownReason::Requested);
        });
        let mut context = Context::from_waker(Waker::noop());
        // Polled once, and dropped whatever it said.
        let _: Poll<()> = pin!(handle.cancelled()).as_mut().poll(&mut context);
        asking.join().unwrap();
        assert!(handle.parts().0.lock().slots.due_on_begin().is_empty());
    });
}

#[test]
fn a_second_request_forces_and_wakes_who_waits_for_that() {
    loom::model(|| {
        let coordinator = coordinator();
        let mut handle = coordinator.create_handle("one");
        coordinator.initiate_shutdown(ShutdownReason::Requested);
        let forcing: Vec<_> =
            (0..2).map(|_| spawn_with(&coordinator, ShutdownCoordinator::force)).collect();
        block_on(handle.forced());
        assert!(handle.is_forced());
        let first: Vec<bool> = forcing.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(first.iter().filter(|first| **first).count(), 1, "{first:?}");
    });
}
