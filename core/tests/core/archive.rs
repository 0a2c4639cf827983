//! A saved state is read back as it was, and nothing else is.

use goat_core::archive::{Error, Head, Reader, Row, Writer};

fn head() -> Head {
    Head { cluster_id: "c".into(), term: 3, index: 9, rows: 3, program_version: "0.1.0".into(), ..Head::default() }
}

fn file() -> Vec<u8> {
    let mut writer = Writer::begin(&head());
    for (key, value) in rows() {
        writer.row(&key, &value);
    }
    writer.end();
    writer.buffer
}

fn rows() -> Vec<Row> {
    vec![(vec![1], b"meta".to_vec()), (vec![2, 0], Vec::new()), (vec![4, 9], vec![7; 300])]
}

fn read(bytes: &[u8]) -> Result<(Head, Vec<Row>), Error> {
    let mut reader = Reader::begin(bytes)?;
    let mut rows = Vec::new();
    while let Some(row) = reader.next_row()? {
        rows.push(row);
    }
    Ok((reader.head().clone(), rows))
}

#[test]
fn what_was_written_is_read() {
    let (found, rows_found) = read(&file()).expect("it is whole");
    assert_eq!((found, rows_found), (head(), rows()));
}

#[test]
fn one_that_was_cut_anywhere_is_refused() {
    let whole = file();
    for length in 0..whole.len() {
        let error = read(&whole[..length]).expect_err("it is not whole");
        assert!(matches!(error, Error::Empty | Error::Short | Error::Foreign), "{length}: {error}");
    }
}

#[test]
fn every_flipped_bit_is_noticed_and_nothing_may_follow() {
    let whole = file();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            assert!(read(&changed).is_err(), "bit {bit} of byte {at}");
        }
    }
    let longer = [&whole[..], b"x"].concat();
    assert!(matches!(read(&longer), Err(Error::Damaged(_))));
}

#[test]
fn a_newer_one_and_another_programs_file_are_told_apart() {
    let mut newer = file();
    newer[8] = 9;
    assert!(matches!(read(&newer), Err(Error::Newer { found: 9 })));
    assert!(matches!(read(b"PK\x03\x04 and something more"), Err(Error::Foreign)));
    assert!(matches!(read(b""), Err(Error::Empty)));
}

/// Not for want of more input: it would be waited for, and room made for it.
#[test]
fn a_length_beyond_any_piece_is_damage() {
    let (whole, head_at) = (file(), 12);
    let head_length = u32::from_le_bytes(whole[head_at..head_at + 4].try_into().expect("four bytes"));
    let key_at = head_at + 4 + head_length as usize;
    for at in [head_at, key_at, key_at + 4] {
        for length in [(64 << 20) + 1, 1 << 31, u32::MAX - 1] {
            let mut changed = whole.clone();
            changed[at..at + 4].copy_from_slice(&u32::to_le_bytes(length));
            let error = read(&changed).expect_err("no piece is so long");
            assert!(matches!(&error, Error::Damaged(why) if why.contains("a piece of")), "{length} at {at}: {error}");
        }
    }
}
