//! Output that is written, read back and followed.

use super::*;

fn text(records: Vec<Record>) -> String {
    records.iter().map(|record| String::from_utf8_lossy(&record.data).into_owned()).collect()
}

#[test]
fn output_is_read_back_line_by_line_and_long_lines_in_pieces() {
    let dir = tempfile::tempdir().expect("a directory");
    let writer = Mutex::new(LogWriter::open(dir.path()).expect("opened"));
    let long = "x".repeat(MAX_PIECE_BYTES + 5);
    let output = format!("one\ntwo\n{long}\nrest");
    pump(output.as_bytes(), Log::Stderr, &writer);
    let mut reader = Reader { dir: dir.path().to_owned(), file: None, rest: Vec::new() };
    let records = reader.read_all().expect("read");
    assert!(records.iter().all(|record| record.is_stderr));
    assert_eq!(text(last(records.clone(), Some(1))), "rest");
    assert_eq!(text(records), output);
}

#[test]
fn a_reader_follows_across_a_change_of_files_and_waits_for_whole_records() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut writer = LogWriter::open(dir.path()).expect("opened");
    let mut reader = Reader { dir: dir.path().to_owned(), file: None, rest: Vec::new() };
    writer.write(Log::Stdout, b"one\n").expect("written");
    assert_eq!(text(reader.read_all().expect("read")), "one\n");
    writer.bytes = MAX_FILE_BYTES;
    writer.write(Log::Stdout, b"two\n").expect("written");
    assert_eq!(text(reader.read().expect("read")), "two\n");
    writer.file.write_all(b"5 o 4\nth").expect("written");
    assert_eq!(text(reader.read().expect("read")), "");
    writer.file.write_all(b"r\n").expect("written");
    assert_eq!(text(reader.read().expect("read")), "thr\n");
    assert!(dir.path().join("log.1").exists());
}

#[test]
fn a_reader_misses_nothing_when_files_change_twice_between_two_reads() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut writer = LogWriter::open(dir.path()).expect("opened");
    let mut reader = Reader { dir: dir.path().to_owned(), file: None, rest: Vec::new() };
    writer.write(Log::Stdout, b"one\n").expect("written");
    assert_eq!(text(reader.read_all().expect("read")), "one\n");
    for line in ["two\n", "three\n"] {
        writer.bytes = MAX_FILE_BYTES;
        writer.write(Log::Stdout, line.as_bytes()).expect("written");
    }
    assert_eq!(text(reader.read().expect("read")), "two\nthree\n");
    assert_eq!(text(reader.read().expect("read")), "");
}

#[test]
fn a_full_disk_costs_what_was_written_meanwhile_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    // What an earlier version left there.
    std::fs::write(dir.path().join("log"), "l 3\nhalf\n").expect("written");
    let mut writer = LogWriter::open(dir.path()).expect("opened");
    writer.write(Log::Stdout, b"before\n").expect("written");
    let bytes = writer.bytes;
    let full = File::options().write(true).open("/dev/full").expect("it is in every Linux");
    let file = std::mem::replace(&mut writer.file, full);
    writer.write(Log::Stdout, b"lost\n").expect_err("the disk is full");
    assert_eq!(writer.bytes, bytes, "what is not there does not fill the file");
    writer.file = file;
    writer.write(Log::Stdout, b"after\n").expect("written");
    let mut reader = Reader { dir: dir.path().to_owned(), file: None, rest: Vec::new() };
    assert_eq!(text(reader.read_all().expect("read")), "before\nafter\n");
}
