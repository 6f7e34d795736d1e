//! The keys of `[keepd]`.

use keepd_model::protocol::NOTES_MAX;
use keepd_model::{Apply, Echo, ExitWhen, ManagerSpec};

use crate::diagnostic::Collector;
use crate::field::{Field, Place, put};
use crate::schema::{KeyDoc, Row, Section};
use crate::table::Entries;

/// The most ends of one service that can be remembered: each costs memory, for every service, and
/// is one of the notes that the proxy keeps for it.
const HISTORY_MAX: u32 = 1_000;

// The record of the service is a note, too.
const _: () = assert!((HISTORY_MAX as usize) < NOTES_MAX);

/// Every key of `[keepd]`.
pub(crate) static ROWS: &[Row<ManagerSpec>] = &[
    row(
        ("name", "string", "\"default\""),
        "a label of this instance in logs and metrics",
        Apply::Live,
        |manager, field| {
            put(&mut manager.name, field.line());
        },
    ),
    row(
        ("log_level", "error, warn, info, debug, trace", "\"info\""),
        "how much keepd says about itself",
        Apply::Live,
        |manager, field| {
            let level = field.word(&["error", "warn", "info", "debug", "trace"], |word| word);
            put(&mut manager.log_level, level.map(str::to_owned));
        },
    ),
    row(
        ("log_format", "text, json", "\"text\""),
        "form of keepd's own messages",
        Apply::NextStart,
        |manager, field| {
            let format = field.word(&["text", "json"], |word| word);
            put(&mut manager.log_json, format.map(|word| word == "json"));
        },
    ),
    row(
        ("run_dir", "path", "of the instance"),
        "control socket and ledger; must be writable",
        Apply::NextStart,
        |manager, field| manager.run_dir = field.literal_path(),
    ),
    row(
        ("state_dir", "path", "of the instance"),
        "last good revision of the files",
        Apply::NextStart,
        |manager, field| manager.state_dir = field.literal_path(),
    ),
    row(
        ("log_dir", "path", "of the instance"),
        "parent of the log folders of services",
        Apply::NextStart,
        |manager, field| manager.log_dir = field.literal_path(),
    ),
    row(
        ("echo", "auto, off, text, json", "\"auto\""),
        "copies lines of services to keepd's standard output; auto: text in up and as PID 1, else \
         off",
        Apply::NextStart,
        |manager, field| put(&mut manager.echo, field.word(Echo::ALL, Echo::word)),
    ),
    row(
        ("exit_when", "auto, never, idle", "\"auto\""),
        "when keepd ends by itself; auto: idle in a foreground up, else never",
        Apply::Live,
        |manager, field| {
            put(&mut manager.exit_when, field.word(ExitWhen::ALL, ExitWhen::word));
        },
    ),
    row(
        ("shutdown_timeout", "duration", "\"90s\""),
        "everything still alive this long after the start of a shutdown is killed",
        Apply::Live,
        |manager, field| put(&mut manager.shutdown_timeout, field.duration()),
    ),
    row(
        ("history", "0 to 1000", "50"),
        "how many ends of each service are remembered",
        Apply::Live,
        |manager, field| {
            let count = field.whole(0, HISTORY_MAX, "a whole number from 0 to 1000");
            put(&mut manager.history_max, count.and_then(|count| usize::try_from(count).ok()));
        },
    ),
];

const fn row(
    (key, value, default): (&'static str, &'static str, &'static str),
    meaning: &'static str,
    apply: Apply,
    read: fn(&mut ManagerSpec, &mut Field<'_, '_>),
) -> Row<ManagerSpec> {
    let doc = KeyDoc { section: Section::Keepd, key, value, default, meaning, apply: Some(apply) };
    Row { doc, read }
}

/// Reads the keys of `[keepd]`.
pub(crate) fn read(entries: &Entries<'_>, collector: &mut Collector) -> ManagerSpec {
    let mut manager = ManagerSpec::default();
    for row in ROWS {
        for (key, entry) in entries.of(row.doc.key) {
            let mut field = Field::new(key, Place::Keepd, *entry, collector);
            (row.read)(&mut manager, &mut field);
        }
    }
    manager
}
