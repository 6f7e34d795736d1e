//! A SIGKILL at every byte of a journal's life: appends, answers, compactions, and a successor that
//! is killed as well.

use keepd_wire::ledger::journal::{Record, Replay, Writer, read};
use keepd_wire::ledger::{BootId, Scope};

const SCOPE: Scope<'static> = Scope { boot: BootId::new([7; 16]), instance: "shop-0badcafe" };
const COMMANDS: [&str; 4] = ["service.args\tweb\ta", "echo", "service.args\tdb\tb", "echo\tx"];

/// What is left after a SIGKILL.
#[derive(Clone)]
struct Disk {
    file: Vec<u8>,
    /// The cell of the mapped part.
    answered: u64,
    /// What clients were told of.
    told: usize,
    /// The number of the next compaction's salt.
    salt: u64,
}

/// Every disk that a kill can leave, in order.
#[derive(Default)]
struct Kills(Vec<Disk>);

impl Kills {
    fn may_come(&mut self, disk: &Disk) {
        self.0.push(disk.clone());
    }

    /// Appends a command and answers it.
    fn append(&mut self, disk: &mut Disk, writer: &mut Writer, command: &str) {
        let mut bytes = Vec::new();
        let number = writer.encode(&Record::Command(command.as_bytes()), &mut bytes).unwrap();
        for byte in bytes {
            self.may_come(disk);
            disk.file.push(byte);
        }
        self.may_come(disk);
        disk.answered = number;
        self.may_come(disk);
        disk.told += 1;
        self.may_come(disk);
    }

    /// Writes a new file beside the old one, and renames it.
    fn compact(&mut self, disk: &mut Disk, writer: &mut Writer) {
        let (file, answered) = (disk.file.clone(), disk.answered);
        let replay = read(&file, &SCOPE, answered).unwrap();
        disk.salt += 1;
        let next = writer.next();
        let (bytes, new) = Writer::begin(&SCOPE, disk.salt, next, &replay.records).unwrap();
        self.may_come(disk);
        disk.file = bytes;
        self.may_come(disk);
        *writer = new;
    }
}

/// A proxy's life from a disk on: two commands, a compaction and the rest.
fn live(disk: &mut Disk, mut writer: Writer, kills: &mut Kills) {
    let known = read(&disk.file, &SCOPE, disk.answered).unwrap().records.len();
    for (index, command) in COMMANDS.iter().enumerate().skip(known) {
        kills.append(disk, &mut writer, command);
        if index == 1 {
            kills.compact(disk, &mut writer);
        }
    }
}

/// What a successor does before anything else. From then on what it found counts as answered:
/// clients see it.
fn recover(disk: &mut Disk, kills: &mut Kills) -> Writer {
    let file = disk.file.clone();
    let replay: Replay<'_> = read(&file, &SCOPE, disk.answered).unwrap();
    let expected = COMMANDS.map(|command| Record::Command(command.as_bytes()));
    assert!(replay.records.len() >= disk.told, "a client was told of more");
    assert!(replay.records.len() <= disk.told + 1, "one command at a time is in flight");
    assert_eq!(replay.records, expected[..replay.records.len()]);
    kills.may_come(disk);
    disk.file.truncate(replay.sound_bytes as usize);
    kills.may_come(disk);
    disk.answered = replay.writer.next() - 1;
    kills.may_come(disk);
    disk.told = replay.records.len();
    replay.writer
}

#[test]
fn two_kills_at_any_byte_lose_no_answered_command_and_mix_up_nothing() {
    let (file, writer) = Writer::begin(&SCOPE, 1, 1, &[]).unwrap();
    let mut first = Disk { file, answered: 0, told: 0, salt: 1 };
    let mut kills = Kills::default();
    live(&mut first, writer, &mut kills);
    let mut second_kills = Kills::default();
    for disk in &kills.0 {
        let mut disk = disk.clone();
        let writer = recover(&mut disk, &mut second_kills);
        live(&mut disk, writer, &mut second_kills);
        assert_eq!(disk.told, COMMANDS.len());
        recover(&mut disk, &mut Kills::default());
    }
    assert!(kills.0.len() > 100 && second_kills.0.len() > 10_000);
    for mut disk in second_kills.0 {
        recover(&mut disk, &mut Kills::default());
    }
}
