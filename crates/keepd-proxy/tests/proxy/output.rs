//! What services write, and what becomes of it.

use keepd_model::Generation;
use keepd_model::protocol::Stream;
use keepd_wire::index::{IndexKind, decode_all};

use crate::support::{Client, Proxy};

/// Every byte value, and much more than a pipe holds.
fn flood() -> Vec<u8> {
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    (0..=255).chain(noise.take(5_000_000)).collect()
}

/// Runs `cat` on the bytes once for each generation.
fn run_cat(client: &mut Client, proxy: &Proxy, bytes: &[u8], log: &str, generations: u64) {
    let source = proxy.folder().join("source");
    std::fs::write(&source, bytes).unwrap();
    client.accepted(&format!("service.args\tweb\t/bin/cat\t{}", source.display()));
    client.accepted(&format!("service.log\tweb\t{log}"));
    for generation in 0..generations {
        client.accepted(&format!("service.start\tweb\t{generation}"));
        let end = client.expect_run("web", generation + 1, "down");
        assert_eq!(end, ("exit".to_owned(), "0".to_owned()));
    }
}

#[test]
fn output_is_kept_byte_by_byte_with_an_index() {
    let proxy = Proxy::start();
    let mut client = proxy.connect();
    let bytes = flood();
    let dir = proxy.folder().join("log/web");
    let log = format!("mode=file\tdir={}\tstderr=separate", dir.display());
    run_cat(&mut client, &proxy, &bytes, &log, 2);
    let written = std::fs::read(dir.join("out.log")).unwrap();
    assert_eq!(written.len(), 2 * bytes.len());
    assert!(written == [&*bytes, &*bytes].concat(), "the bytes differ");
    assert_eq!(std::fs::read(dir.join("err.log")).unwrap(), b"");

    let (records, damaged) = decode_all(&std::fs::read(dir.join("index")).unwrap());
    assert_eq!(damaged, 0);
    let mut offset = 0;
    let mut generation = Generation::NONE;
    for record in records.iter().filter(|record| record.stream == Stream::Out) {
        assert_eq!(record.offset, offset, "{record:?}");
        match record.kind {
            IndexKind::Start => {
                generation = generation.next();
                assert_eq!(offset, (generation.get() - 1) * bytes.len() as u64);
            }
            IndexKind::Chunk => offset += u64::from(record.length_bytes),
        }
        assert_eq!(record.generation, generation);
    }
    assert_eq!(offset, written.len() as u64);
    assert!(records.windows(2).all(|pair| pair[0].monotonic <= pair[1].monotonic));
}

#[test]
fn merged_and_appended_output_is_in_one_file() {
    let proxy = Proxy::start();
    let mut client = proxy.connect();
    let dir = proxy.folder().join("log/web");
    let file = dir.join("all.log");
    client.accepted("service.args\tweb\t/bin/sh\t-c\techo 1; echo 2 >&2; echo 3 > /dev/stdout");
    client.accepted(&format!("service.log\tweb\tmode=file\tdir={}\tstderr=merge", dir.display()));
    client.accepted("service.start\tweb\t0");
    client.expect_run("web", 1, "down");
    assert_eq!(std::fs::read(dir.join("out.log")).unwrap(), b"1\n2\n3\n");
    std::fs::write(&file, b"0\n").unwrap();
    client.accepted(&format!("service.log\tweb\tmode=append\tfile={}", file.display()));
    client.accepted("service.start\tweb\t1");
    client.expect_run("web", 2, "down");
    assert_eq!(std::fs::read(&file).unwrap(), b"0\n1\n2\n3\n");
}

#[test]
fn files_that_were_removed_are_made_again_at_the_next_start() {
    let proxy = Proxy::start();
    let mut client = proxy.connect();
    let dir = proxy.folder().join("log/web");
    let log = format!("mode=file\tdir={}\tstderr=separate", dir.display());
    run_cat(&mut client, &proxy, b"first\n", &log, 1);
    std::fs::remove_dir_all(&dir).unwrap();
    client.accepted("service.start\tweb\t1");
    client.expect_run("web", 2, "down");
    assert_eq!(std::fs::read(dir.join("out.log")).unwrap(), b"first\n");
}

#[test]
fn a_log_folder_that_cannot_be_made_fails_its_service_only() {
    let proxy = Proxy::start();
    let mut client = proxy.connect();
    std::fs::write(proxy.folder().join("file"), b"").unwrap();
    let dir = proxy.folder().join("file/web");
    client.accepted("service.args\tweb\t/bin/true");
    client.accepted(&format!("service.log\tweb\tmode=file\tdir={}", dir.display()));
    client.accepted("service.start\tweb\t0");
    let end = client.expect_run("web", 1, "down");
    assert_eq!(end, ("failed".to_owned(), "prepare:20".to_owned()));
    client.accepted("service.log\tweb\tmode=null");
    client.accepted("service.start\tweb\t1");
    assert_eq!(client.expect_run("web", 2, "down").0, "exit");
}

#[test]
fn a_log_folder_belongs_to_one_service_at_a_time() {
    let proxy = Proxy::start();
    let mut client = proxy.connect();
    let dir = proxy.folder().join("log/shared").display().to_string();
    // However the same folder is written.
    for (name, dir) in [("one", dir.clone()), ("two", format!("{dir}/."))] {
        client.accepted(&format!("service.args\t{name}\t/bin/true"));
        client.accepted(&format!("service.log\t{name}\tmode=file\tdir={dir}"));
    }
    client.accepted("service.start\tone\t0");
    client.expect_run("one", 1, "down");
    client.accepted("service.start\ttwo\t0");
    let end = client.expect_run("two", 1, "down");
    assert_eq!(end, ("failed".to_owned(), "prepare:16".to_owned()));
    client.accepted("service.delete\tone");
    client.accepted("service.start\ttwo\t1");
    assert_eq!(client.expect_run("two", 2, "down").0, "exit");
}

#[test]
fn who_asks_hears_how_far_output_reaches() {
    let proxy = Proxy::start();
    let mut client = proxy.connect();
    client.accepted("conn.log\ton");
    let dir = proxy.folder().join("log/web");
    let log = format!("mode=file\tdir={}\tstderr=separate", dir.display());
    let source = proxy.folder().join("source");
    std::fs::write(&source, b"12345").unwrap();
    client.accepted(&format!("service.log\tweb\t{log}"));
    client.accepted(&format!("service.args\tweb\t/bin/cat\t{}", source.display()));
    client.accepted("service.start\tweb\t0");
    let line = client.expect("service.output\tweb\t");
    assert_eq!(line, "service.output\tweb\tout\t5");
}

#[test]
fn a_full_disk_blocks_the_writer_and_loses_nothing() {
    let proxy = Proxy::start();
    let disk = proxy.folder().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let Some(disk) = SmallDisk::mount(&disk) else {
        eprintln!("skipped: file systems cannot be mounted here");
        return;
    };
    let mut client = proxy.connect();
    let bytes = &flood()[..600_000];
    let ballast = disk.path.join("ballast");
    std::fs::write(&ballast, vec![0; 700_000]).unwrap();
    let source = proxy.folder().join("source");
    std::fs::write(&source, bytes).unwrap();
    client.accepted(&format!("service.args\tweb\t/bin/cat\t{}", source.display()));
    client.accepted(&format!("service.log\tweb\tmode=file\tdir={}/web", disk.path.display()));
    client.accepted("service.start\tweb\t0");
    client.expect("service.output_blocked\tweb\t28");
    // The others go on, and so does control.
    client.accepted("service.args\tother\t/bin/true");
    client.accepted("service.start\tother\t0");
    client.expect_run("other", 1, "down");
    std::fs::remove_file(ballast).unwrap();
    client.expect("service.output_blocked\tweb\t0");
    client.expect_run("web", 1, "down");
    assert!(std::fs::read(disk.path.join("web/out.log")).unwrap() == bytes, "the bytes differ");
    let index = std::fs::read(disk.path.join("web/index")).unwrap();
    assert_eq!(decode_all(&index).1, 0);
}

/// A file system of 1 MiB.
struct SmallDisk {
    path: std::path::PathBuf,
}

impl SmallDisk {
    fn mount(path: &std::path::Path) -> Option<Self> {
        use rustix::mount::{MountFlags, mount};
        let options = Some(c"size=1m");
        mount("tmpfs", path, "tmpfs", MountFlags::empty(), options).ok()?;
        Some(Self { path: path.to_owned() })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.path, rustix::mount::UnmountFlags::DETACH);
    }
}
