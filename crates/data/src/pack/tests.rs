use proptest::prelude::*;

use super::*;
use crate::count_targets;

/// Documents whose tokens are all different, so that every token can be found again.
fn documents() -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(1usize..40, 0..30).prop_map(|lengths| {
        let mut next = 0;
        lengths
            .into_iter()
            .map(|length| {
                next += length as u32;
                (next - length as u32..next).collect()
            })
            .collect()
    })
}

fn packers(sequence_length: usize) -> [Packer; 3] {
    [
        Packer::new(Packing::ConcatAndChunk, sequence_length),
        Packer::new(Packing::BestFit, sequence_length),
        Packer::BestFit(BestFit::with_block(sequence_length, 64)),
    ]
}

fn pack(mut packer: Packer, documents: &[Vec<u32>]) -> (Vec<PackedWindow>, u64) {
    let mut windows = Vec::new();
    let mut emit = |window| {
        windows.push(window);
        Ok::<(), ()>(())
    };
    for document in documents {
        packer.push(document, &mut emit).unwrap();
    }
    let skipped = packer.finish(&mut emit).unwrap();
    (windows, skipped)
}

/// The pairs (position, target) of a window, by the rule: the next token is real and no document
/// begins at it.
fn targets(window: &PackedWindow) -> Vec<(u32, u32)> {
    (1..window.length)
        .filter(|next| !window.document_starts.contains(next))
        .map(|next| (window.tokens[next as usize - 1], window.tokens[next as usize]))
        .collect()
}

/// Joins pieces that continue each other: the tokens are all different, so a piece that begins
/// with the token that another ends with is the rest of its document.
fn unpack(windows: &[PackedWindow]) -> Vec<Vec<u32>> {
    let mut pieces: Vec<Vec<u32>> = Vec::new();
    for window in windows {
        let ends = window.document_starts.iter().skip(1).chain([&window.length]);
        for (&start, &end) in window.document_starts.iter().zip(ends) {
            pieces.push(window.tokens[start as usize..end as usize].to_vec());
        }
    }
    pieces.sort_by_key(|piece| (piece[0], piece.len()));
    let mut documents: Vec<Vec<u32>> = Vec::new();
    for piece in pieces {
        match documents.last_mut() {
            Some(open) if open.last() == Some(&piece[0]) => open.extend_from_slice(&piece[1..]),
            _ => documents.push(piece),
        }
    }
    documents
}

proptest! {
    #[test]
    fn every_token_is_a_target_once_and_in_its_document(
        documents in documents(),
        sequence_length in 1usize..24,
    ) {
        let mut expected: Vec<(u32, u32)> =
            documents.iter().flat_map(|d| d.windows(2).map(|pair| (pair[0], pair[1]))).collect();
        expected.sort_unstable();
        for packer in packers(sequence_length) {
            let (windows, _) = pack(packer, &documents);
            let mut found: Vec<(u32, u32)> = windows.iter().flat_map(targets).collect();
            found.sort_unstable();
            prop_assert_eq!(&found, &expected);
        }
    }

    #[test]
    fn windows_are_well_formed(documents in documents(), sequence_length in 1usize..24) {
        let total: usize = documents.iter().map(Vec::len).sum();
        let byte_lengths: Vec<u32> = (0..total as u32).map(|id| id % 5).collect();
        for packer in packers(sequence_length) {
            for window in pack(packer, &documents).0 {
                prop_assert_eq!(window.tokens.len(), sequence_length + 1);
                prop_assert_eq!(window.document_starts[0], 0);
                prop_assert!(window.document_starts.is_sorted_by(|a, b| a < b));
                prop_assert!(*window.document_starts.last().unwrap() < window.length);
                prop_assert!(window.tokens[window.length as usize..].iter().all(|&t| t == 0));
                let counts = count_targets(
                    &window.tokens, window.length, &window.document_starts, &byte_lengths,
                );
                let naive = targets(&window);
                prop_assert!(!naive.is_empty());
                prop_assert_eq!(counts.tokens as usize, naive.len());
                let bytes: u32 = naive.iter().map(|&(_, t)| byte_lengths[t as usize]).sum();
                prop_assert_eq!(counts.bytes, bytes);
            }
        }
    }

    #[test]
    fn documents_come_back(documents in documents(), sequence_length in 2usize..24) {
        // Alone in a window, a document of one token has no target and is not written.
        let documents: Vec<Vec<u32>> = documents.into_iter().filter(|d| d.len() > 1).collect();
        for packer in packers(sequence_length) {
            let (windows, skipped) = pack(packer, &documents);
            prop_assert_eq!(skipped, 0);
            prop_assert_eq!(unpack(&windows), documents.clone());
        }
    }

    #[test]
    fn concatenation_pads_only_the_last_window(
        documents in documents(),
        sequence_length in 2usize..24,
    ) {
        let documents: Vec<Vec<u32>> = documents.into_iter().filter(|d| d.len() > 1).collect();
        let total: usize = documents.iter().map(Vec::len).sum();
        let (windows, _) = pack(Packer::new(Packing::ConcatAndChunk, sequence_length), &documents);
        prop_assert_eq!(windows.len(), total.saturating_sub(1).div_ceil(sequence_length));
        for pair in windows.windows(2) {
            prop_assert_eq!(pair[0].length as usize, sequence_length + 1);
            prop_assert_eq!(pair[0].tokens.last(), pair[1].tokens.first());
        }
    }
}

#[test]
fn best_fit_keeps_what_fits_in_one_piece() {
    let documents = [vec![1; 5], vec![2; 4], vec![3; 3], vec![4; 2], vec![5; 9]];
    let (windows, skipped) = pack(Packer::new(Packing::BestFit, 6), &documents);
    assert_eq!(skipped, 0);
    let rows: Vec<(Vec<u32>, Vec<u32>, u32)> =
        windows.into_iter().map(|w| (w.tokens, w.document_starts, w.length)).collect();
    assert_eq!(
        rows,
        [
            (vec![5; 7], vec![0], 7),
            (vec![1, 1, 1, 1, 1, 4, 4], vec![0, 5], 7),
            (vec![2, 2, 2, 2, 3, 3, 3], vec![0, 4], 7),
            (vec![5, 5, 5, 0, 0, 0, 0], vec![0], 3),
        ]
    );
}

#[test]
fn a_lone_token_is_counted_not_written() {
    for packer in packers(4) {
        assert_eq!(pack(packer, &[vec![7]]), (vec![], 1));
    }
    let (windows, skipped) = pack(Packer::new(Packing::ConcatAndChunk, 4), &[vec![7], vec![8, 9]]);
    assert_eq!((windows.len(), skipped), (1, 0));
}
