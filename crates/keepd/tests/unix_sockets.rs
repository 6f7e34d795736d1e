//! Listening on a path.

#![cfg(feature = "ipc")]

use std::io::ErrorKind;

use keepd::ipc::unix;
use keepd_testkit::Scratch;

#[tokio::test]
async fn a_socket_with_a_listener_is_not_taken_away() {
    let scratch = Scratch::new();
    let path = scratch.path().join("s");
    let listener = unix::bind(&path).await.unwrap();
    let error = unix::bind(&path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains("somebody listens there"), "{error}");
    // Two connections wait there: the question of `bind`, and this one.
    unix::connect(&path).await.unwrap();
    listener.accept().await.unwrap();
    listener.accept().await.unwrap();
}

#[tokio::test]
async fn a_socket_that_was_left_behind_is_replaced() {
    let scratch = Scratch::new();
    let path = scratch.path().join("s");
    drop(unix::bind(&path).await.unwrap());
    assert!(path.exists());
    let listener = unix::bind(&path).await.unwrap();
    unix::connect(&path).await.unwrap();
    listener.accept().await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_not_removed() {
    let scratch = Scratch::new();
    let path = scratch.write("s", "precious");
    let error = unix::bind(&path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn of_many_at_once_exactly_one_listens() {
    let scratch = Scratch::new();
    let path = scratch.path().join("s");
    drop(unix::bind(&path).await.unwrap());
    let attempts: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            tokio::spawn(async move { unix::bind(path).await })
        })
        .collect();
    let mut listeners = Vec::new();
    for attempt in attempts {
        listeners.extend(attempt.await.unwrap().ok());
    }
    assert_eq!(listeners.len(), 1);
    unix::connect(&path).await.unwrap();
}
