//! The binding against the RocksDB that is installed.

use std::ffi::CStr;
use std::path::Path;

use goat_rocksdb::{Cache, Db, Error, ErrorKind, Options, Pair, TableOptions, properties};
use tempfile::TempDir;

const FIRST: usize = 0;
const SECOND: usize = 1;

fn options() -> Options {
    let mut options = Options::default();
    options.set_create_if_missing(true);
    options.set_create_missing_families(true);
    options
}

fn families() -> [(&'static CStr, Options); 2] {
    let cache = Cache::lru(1 << 20);
    [c"first", c"second"].map(|name| {
        let mut tables = TableOptions::default();
        tables.set_block_cache(&cache);
        tables.set_format_version(5);
        let mut options = Options::default();
        options.set_tables(&tables);
        options.disable_compression();
        (name, options)
    })
}

fn open(path: &Path) -> Db {
    Db::open(&options(), path, &families()).expect("an empty directory, or one of these tests")
}

fn put(db: &Db, family: usize, key: &[u8], value: &[u8]) {
    let mut batch = db.batch();
    batch.put(family, key, value);
    batch.write(false).expect("a healthy disk");
}

fn keys(pairs: impl Iterator<Item = Result<Pair, Error>>) -> Vec<String> {
    pairs.map(|pair| String::from_utf8_lossy(&pair.expect("readable").0).into_owned()).collect()
}

#[test]
fn pairs_are_read_in_order_within_their_bounds_and_their_family() {
    let dir = TempDir::new().expect("a directory");
    let db = open(dir.path());
    for key in ["b", "a", "d", "c"] {
        put(&db, FIRST, key.as_bytes(), b"value");
    }
    put(&db, SECOND, b"x", b"");
    assert_eq!(keys(db.scan(FIRST, b"", None)), ["a", "b", "c", "d"]);
    assert_eq!(keys(db.scan(FIRST, b"b", Some(b"d"))), ["b", "c"]);
    assert_eq!(keys(db.scan(FIRST, b"e", None)), [""; 0]);
    assert_eq!(db.last(FIRST).expect("readable").expect("there is one").0, b"d"[..].into());
    assert_eq!(db.get(FIRST, b"a").expect("readable"), Some(b"value".to_vec()));
    assert_eq!(db.get(SECOND, b"x").expect("readable"), Some(Vec::new()), "an empty value is a value");
    assert_eq!(db.get(SECOND, b"a").expect("readable"), None);
}

#[test]
fn a_batch_takes_effect_as_a_whole_when_it_is_written_and_not_before() {
    let dir = TempDir::new().expect("a directory");
    let db = open(dir.path());
    for key in ["a", "b", "c", "d"] {
        put(&db, FIRST, key.as_bytes(), b"1");
    }
    let mut batch = db.batch();
    batch.delete(FIRST, b"a");
    batch.delete_range(FIRST, b"b", b"d");
    batch.put(SECOND, b"e", b"2");
    assert_eq!(keys(db.scan(FIRST, b"", None)).len(), 4);
    batch.write(true).expect("a healthy disk");
    assert_eq!(keys(db.scan(FIRST, b"", None)), ["d"]);
    assert_eq!(keys(db.scan(SECOND, b"", None)), ["e"]);
}

#[test]
fn a_snapshot_shows_what_was_there_when_it_was_taken() {
    let dir = TempDir::new().expect("a directory");
    let db = open(dir.path());
    put(&db, FIRST, b"a", b"old");
    let snapshot = db.snapshot();
    put(&db, FIRST, b"a", b"new");
    put(&db, FIRST, b"b", b"new");
    assert_eq!(snapshot.get(FIRST, b"a").expect("readable"), Some(b"old".to_vec()));
    assert_eq!(keys(snapshot.scan(FIRST, b"", None)), ["a"]);
    assert_eq!(snapshot.last(FIRST).expect("readable").expect("there is one").0, b"a"[..].into());
    assert_eq!(db.get(FIRST, b"a").expect("readable"), Some(b"new".to_vec()));
}

#[test]
fn a_database_keeps_what_was_written_and_is_readable_without_being_changed() {
    let dir = TempDir::new().expect("a directory");
    put(&open(dir.path()), FIRST, b"a", b"1");
    let db = Db::open_read_only(&Options::default(), dir.path(), &families()).expect("it is there");
    assert_eq!(db.get(FIRST, b"a").expect("readable"), Some(b"1".to_vec()));
    let mut batch = db.batch();
    batch.put(FIRST, b"b", b"2");
    assert_eq!(batch.write(false).expect_err("read-only").kind(), ErrorKind::Other);
}

#[test]
fn errors_have_a_kind_and_a_message() {
    let dir = TempDir::new().expect("a directory");
    let missing = Db::open(&Options::default(), &dir.path().join("none"), &families()).expect_err("not to be made");
    assert_eq!(missing.kind(), ErrorKind::InvalidArgument, "{missing}");
    drop(open(dir.path()));
    let manifest = std::fs::read_dir(dir.path()).expect("readable").map(|entry| entry.expect("readable").path());
    let manifest = manifest.filter(|path| path.to_string_lossy().contains("MANIFEST")).max().expect("there is one");
    std::fs::write(&manifest, vec![0xff; 4096]).expect("written");
    let damaged = Db::open(&options(), dir.path(), &families()).expect_err("damaged");
    assert_eq!(damaged.kind(), ErrorKind::Corruption, "{damaged}");
    std::fs::write(dir.path().join("file"), "").expect("written");
    let no_directory = Db::open(&options(), &dir.path().join("file"), &families()).expect_err("a file");
    assert_eq!(no_directory.kind(), ErrorKind::Io, "{no_directory}");
}

#[test]
fn rocksdb_tells_every_property_that_is_named() {
    let dir = TempDir::new().expect("a directory");
    let db = open(dir.path());
    put(&db, FIRST, b"a", b"1");
    for name in [
        properties::TOTAL_SST_FILES_SIZE,
        properties::ESTIMATE_LIVE_DATA_SIZE,
        properties::CUR_SIZE_ALL_MEM_TABLES,
        properties::ESTIMATE_PENDING_COMPACTION_BYTES,
        properties::BLOCK_CACHE_USAGE,
        properties::NUM_RUNNING_COMPACTIONS,
        properties::BACKGROUND_ERRORS,
        properties::IS_WRITE_STOPPED,
    ] {
        assert!(db.property(FIRST, name).is_some(), "{name:?}");
    }
    assert!(db.property(FIRST, properties::CUR_SIZE_ALL_MEM_TABLES) > Some(0));
    assert_eq!(db.property(FIRST, c"rocksdb.nothing"), None);
}
