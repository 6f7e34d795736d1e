//! The files of the ledger, and the cells in it.

use keepd_wire::ledger::journal::{self, Record, Writer};
use keepd_wire::ledger::layout::{CHUNKS_MAX, check_header, file_bytes};
use keepd_wire::ledger::{BootId, Identity, Scope, Word, open_cell, ring, seal_cell};

/// Whose the files of the corpus are.
const SCOPE: Scope<'static> = Scope { boot: BootId::new([7; 16]), instance: "shop-0badcafe" };

/// Bytes as cells, as either file, and as orders to write a journal and damage it: what is read is
/// what was written, and everything that was answered; or it is refused.
pub fn ledger(bytes: &[u8]) {
    cells(bytes);
    if let Ok(header) = check_header(bytes, bytes.len() as u64, &SCOPE) {
        assert!(header.chunks <= CHUNKS_MAX);
        assert_eq!(file_bytes(header.chunks) + header.surplus_bytes, bytes.len() as u64);
    }
    if let Ok(replay) = journal::read(bytes, &SCOPE, 0) {
        let sound = &bytes[..replay.sound_bytes as usize];
        let again = journal::read(sound, &SCOPE, replay.writer.next() - 1);
        let again = again.expect("what was sound is still sound");
        assert_eq!((again.records, again.writer), (replay.records, replay.writer));
    }
    damaged_journal(bytes);
}

fn cells(bytes: &[u8]) {
    for chunk in bytes.chunks_exact(8).take(64) {
        let raw = u64::from_le_bytes(chunk.try_into().expect("chunks have 8 bytes"));
        for cell in [raw, seal_cell(raw >> 6)] {
            if let Ok(word) = Word::from_raw(cell) {
                assert_eq!(word.raw(), cell);
                let outcome = word.settled().is_some();
                assert_eq!(ring::put(0, word) == ring::Put::Nothing, !outcome);
            }
            if let Some(identity) = Identity::from_raw(cell) {
                let again = identity.raw().and_then(Identity::from_raw);
                assert_eq!(again, Some(identity));
            }
            if let Some(number) = open_cell(cell) {
                assert_eq!(seal_cell(number), cell);
            }
        }
    }
}

/// The first bytes say how much was answered, how much is cut off and which bit is flipped; the
/// rest are the commands, one a line.
fn damaged_journal(bytes: &[u8]) {
    let Some(([answered, cut_low, cut_high, bit @ ..], commands)) = bytes.split_first_chunk::<6>()
    else {
        return;
    };
    let records: Vec<Record<'_>> =
        commands.split(|byte| *byte == b'\n').map(Record::Command).collect();
    let Ok((mut file, mut writer)) = Writer::begin(&SCOPE, 99, 1, &[]) else {
        return;
    };
    for record in &records {
        if writer.encode(record, &mut file).is_err() {
            return;
        }
    }
    let answered = u64::from(*answered).min(records.len() as u64);
    let cut = usize::from(u16::from_le_bytes([*cut_low, *cut_high]));
    file.truncate(file.len().saturating_sub(cut));
    let [low, middle, high] = *bit;
    let bit = u32::from_le_bytes([low, middle, high, 0]) as usize;
    // The highest numbers flip nothing.
    if let Some(byte) = file.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
    if let Ok(replay) = journal::read(&file, &SCOPE, answered) {
        assert!(replay.records.len() as u64 >= answered);
        assert!(records.starts_with(&replay.records), "{:?}", replay.records);
    }
}
