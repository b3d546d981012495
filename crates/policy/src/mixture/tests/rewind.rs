//! Going back to an older cursor with a newer journal.

use proptest::prelude::*;

use super::*;

fn schedule() -> MixtureSchedule {
    let segments = vec![Segment::constant(60, vec![3, 1]), Segment::constant(40, vec![1, 1])];
    MixtureSchedule::new(Seed(5), editions(&[50, 20]), segments).unwrap()
}

proptest! {
    /// What is passed over is drawn and not trained on, whatever was entered before, and what comes
    /// behind it is what would have come anyway.
    #[test]
    fn a_rewound_run_meets_the_same_sequences(
        entered in prop::collection::vec((0u64..95, 1u64..9), 0..6),
        back in 0u64..90,
        ahead in 0u64..15,
        length in 1u64..30,
    ) {
        let schedule = schedule();
        let mut journal = Journal::default();
        let mut at = 0;
        for (start, length) in entered {
            let mut cursor = schedule.cursor_at_start();
            schedule.advance_to(&mut cursor, start.max(at));
            schedule.skip(&mut cursor, &mut journal, length);
            at = cursor.index().0;
        }
        let before = journal.clone();
        let mut cursor = schedule.cursor_at_start();
        schedule.advance_to(&mut cursor, back + ahead);
        let [start, end] = [back + ahead, (back + ahead + length).min(100)];
        schedule.skip_to(&mut cursor, &mut journal, end);
        prop_assert_eq!(cursor.index().0, end);

        let known = |index: u64| before.covering(index).is_some();
        for index in 0..100 {
            let covered = journal.covering(index).is_some();
            prop_assert_eq!(covered, known(index) || (start..end).contains(&index), "{}", index);
        }
        // Entering it once more changes nothing.
        let mut again = journal.clone();
        let mut cursor = schedule.cursor_at_start();
        schedule.advance_to(&mut cursor, start);
        schedule.skip_to(&mut cursor, &mut again, end);
        prop_assert_eq!(&again, &journal);

        // From the older cursor on, the trained sequences are the rest of the one stream.
        let all = draw_all(&schedule);
        let mut cursor = schedule.cursor_at_start();
        schedule.advance_to(&mut cursor, back);
        let trained: Vec<Draw> =
            std::iter::from_fn(|| schedule.next_trained(&mut cursor, &journal)).collect();
        let rest = all.iter().filter(|draw| draw.index.0 >= back);
        let rest: Vec<Draw> = rest.filter(|d| journal.covering(d.index.0).is_none()).copied().collect();
        prop_assert_eq!(trained, rest);
        for pair in journal.skips().windows(2) {
            prop_assert!(pair[0].end <= pair[1].start);
            prop_assert_eq!(journal.next_start(pair[0].start + 1), Some(pair[1].start));
        }
    }
}
