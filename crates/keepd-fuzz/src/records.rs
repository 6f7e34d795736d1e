//! sd_notify(3) datagrams and records of log indexes.

use keepd_wire::index::{RECORD_BYTES, decode_all, decode_record, encode_record};
use keepd_wire::notify::parse_notify;

/// A datagram from a service: its status is one harmless line, and only the first bytes count.
pub fn datagrams(bytes: &[u8]) {
    let notification = parse_notify(bytes);
    if let Some(status) = &notification.status {
        assert!(!status.chars().any(char::is_control), "{status:?} moves a cursor");
    }
    let more = [bytes, &[b'\n'; 4096], b"READY=1\nSTATUS=late\nMAINPID=7"].concat();
    assert_eq!(parse_notify(&more), parse_notify(&more[..4096]));
}

/// An index file, whole or damaged: every record found is written as the same, and none is found
/// that is not there.
pub fn index(bytes: &[u8]) {
    let (records, damaged) = decode_all(bytes);
    assert!(records.len() * RECORD_BYTES <= bytes.len());
    assert!(damaged <= bytes.len().div_ceil(RECORD_BYTES));
    for record in &records {
        assert_eq!(decode_record(&encode_record(record)), Ok(*record));
    }
    let written: Vec<u8> = records.iter().flat_map(encode_record).collect();
    assert_eq!(decode_all(&written), (records, 0));
}
