//! Segments as files: what is damaged behind the records is made again, and what is damaged in them is found.

use super::file::{SegmentError, file_name, foot, mend, parse_file_name, prove, prove_bytes, read_records, write};
use super::merge::{Broken, Source, merge};
use super::testing::{Owned, OwnedLine, any_records, file_of, owned, records_bytes};
use super::*;
use crate::kvstore::testing::MemFiles;
use crate::ports::LogDisk;
use bytes::Bytes;
use proptest::prelude::*;

fn listed(records: &[Owned]) -> Listed {
    let sealed = seal([&records_bytes(records).0[..]]).expect("records ascend");
    Listed::of(&sealed.foot, 0)
}

fn written(disk: &MemFiles, n: u64, records: &[Owned], pieces: usize) -> Listed {
    let bytes = Bytes::from(records_bytes(records).0);
    let pieces: Vec<Bytes> = bytes.chunks(pieces).map(Bytes::copy_from_slice).collect();
    disk.create(&file_name(n), 0).expect("memory");
    let listed = listed(records);
    write(disk, n, &pieces, &listed).expect("memory");
    listed
}

fn merged(disk: &MemFiles, sources: &mut [Source]) -> Result<Vec<(usize, OwnedLine)>, Broken> {
    let mut lines = Vec::new();
    merge(disk, sources, &mut |source, line| lines.push((source, owned(*line))))?;
    Ok(lines)
}

#[test]
fn names_have_twenty_digits() {
    assert_eq!(file_name(7), "kv-00000000000000000007");
    assert_eq!(parse_file_name(&file_name(u64::MAX)), Some(u64::MAX));
    for other in ["kv-7", "kv-0000000000000000000x", "kv-000000000000000000007", "snapshot-00000000000000000007", "kv-"]
    {
        assert_eq!(parse_file_name(other), None, "{other}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_written_file_is_the_one_that_sealing_gives(records in any_records(1..30), pieces in 1usize..2000) {
        let disk = MemFiles::default();
        let listed = written(&disk, 3, &records, pieces);
        prop_assert_eq!(&disk.files()[&file_name(3)], &file_of(&records));
        prop_assert!(listed.is(&foot(&disk, 3, &listed).expect("it is whole")));
        prop_assert_eq!(read_records(&disk, 3, &listed).expect("it is whole"), records_bytes(&records).0);
    }

    #[test]
    fn one_wrong_byte_behind_the_records_is_mended_and_one_in_them_is_damage(
        records in any_records(1..12),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let disk = MemFiles::default();
        let listed = written(&disk, 3, &records, 500);
        let whole = disk.files()[&file_name(3)].clone();
        let at = at.index(whole.len());
        disk.files().get_mut(&file_name(3)).expect("it is there")[at] ^= 1 << bit;
        if (at as u64) < listed.records_bytes {
            prop_assert!(matches!(prove(&disk, 3, &listed), Err(SegmentError::Damaged(_))));
            prop_assert!(foot(&disk, 3, &listed).is_ok(), "a foot says nothing of the records");
        } else {
            let repaired = match foot(&disk, 3, &listed) {
                Ok(found) => merged(&disk, &mut [Source::file(3, &found)]).is_ok(),
                // One bit makes a newer format of ours only with the crc of such a one.
                Err(error) => panic!("{error}"),
            };
            if !repaired {
                mend(&disk, 3, &listed).expect("the records are good");
            }
            let marks = foot(&disk, 3, &listed).expect("the foot is good").marks_offset() as usize;
            let is_in_marks = (marks..whole.len() - FOOT_BYTES).contains(&at);
            prop_assert!(is_in_marks || disk.files()[&file_name(3)] == whole);
        }
    }

    #[test]
    fn a_file_of_another_length_is_mended(records in any_records(1..12), cut in any::<prop::sample::Index>(), more in 1usize..200) {
        let disk = MemFiles::default();
        let listed = written(&disk, 3, &records, 500);
        let whole = disk.files()[&file_name(3)].clone();
        let behind = whole.len() - listed.records_bytes as usize;
        disk.files().get_mut(&file_name(3)).expect("it is there").truncate(whole.len() - 1 - cut.index(behind));
        foot(&disk, 3, &listed).expect("the records are good");
        prop_assert_eq!(&disk.files()[&file_name(3)], &whole);
        disk.files().get_mut(&file_name(3)).expect("it is there").extend(vec![0; more]);
        foot(&disk, 3, &listed).expect("the records are good");
        prop_assert_eq!(&disk.files()[&file_name(3)], &whole);
        disk.files().get_mut(&file_name(3)).expect("it is there").truncate(listed.records_bytes as usize - 1);
        prop_assert!(matches!(foot(&disk, 3, &listed), Err(SegmentError::Damaged(_))));
    }

    #[test]
    fn merged_tables_are_all_lines_by_key_and_position(records in any_records(1..60), parts in 1usize..9, in_memory: bool) {
        let disk = MemFiles::default();
        let mut sources = Vec::new();
        let mut expected = Vec::new();
        for (n, part) in records.chunks(records.len().div_ceil(parts)).enumerate() {
            let listed = written(&disk, n as u64, part, 500);
            let (bytes, offsets) = records_bytes(part);
            for (record, offset) in part.iter().zip(offsets) {
                let len = record.view().bytes() as u32;
                expected.push((n, (record.key.clone(), record.stamp, offset, len)));
            }
            sources.push(match in_memory && n % 2 == 0 {
                true => Source::memory(&prove_bytes("a part", &bytes, listed.hash).expect("it is whole")),
                false => Source::file(n as u64, &foot(&disk, n as u64, &listed).expect("it is whole")),
            });
        }
        expected.sort_by(|(_, a), (_, b)| (&a.0, a.1.at).cmp(&(&b.0, b.1.at)));
        prop_assert_eq!(merged(&disk, &mut sources).expect("all are whole"), expected);
    }
}

#[test]
fn what_is_not_listed_is_not_taken_for_it() {
    let disk = MemFiles::default();
    let record = |main| Owned {
        stamp: Stamp { at: Position { main, sub: 0 }, create: main, version: 1, lease: None, tombstone: false },
        key: b"key".to_vec(),
        value: b"value".to_vec(),
    };
    let (ours, other) = (listed(&[record(2)]), written(&disk, 1, &[record(3)], 100));
    for wrong in [ours, Listed { hash: 1, ..other }, Listed { records: 2, last: Position { main: 3, sub: 1 }, ..other }]
    {
        assert!(matches!(prove(&disk, 1, &wrong), Err(SegmentError::Damaged(_))), "{wrong:?}");
        assert!(matches!(foot(&disk, 1, &wrong), Err(SegmentError::Damaged(_))), "{wrong:?}");
    }
    assert!(matches!(prove(&disk, 9, &ours), Err(SegmentError::Damaged(why)) if why.ends_with("is missing")));
    let refused = write(&disk, 1, &[Bytes::from(records_bytes(&[record(2)]).0)], &other);
    assert!(matches!(refused, Err(SegmentError::Damaged(_))), "the records are not those of the list");
}

#[test]
fn a_newer_builds_file_is_left_as_it_is() {
    let disk = MemFiles::default();
    let record = Owned {
        stamp: Stamp { at: Position { main: 2, sub: 0 }, create: 2, version: 1, lease: None, tombstone: false },
        key: b"key".to_vec(),
        value: b"value".to_vec(),
    };
    let listed = written(&disk, 1, &[record], 100);
    let mut newer = disk.files()[&file_name(1)].clone();
    let foot_at = newer.len() - FOOT_BYTES;
    newer[foot_at + 7] = b'3';
    let crc = crc32c::crc32c(&newer[foot_at..foot_at + FOOT_BYTES - 4]);
    newer[foot_at + FOOT_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    disk.files().insert(file_name(1), newer.clone());
    assert!(matches!(foot(&disk, 1, &listed), Err(SegmentError::Newer(_))));
    assert_eq!(disk.files()[&file_name(1)], newer);
}
