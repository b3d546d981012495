//! Which sequence lies where in the cache, and what of it a new one can begin with.

/// Prompts that have less in common than this do not wait for each other.
const WORTH_WAITING: usize = 16;

/// One sequence's place in the cache.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    /// The tokens whose keys and values are there; they stay when the request is done.
    pub(crate) tokens: Vec<u32>,
    /// Whether a request works on it.
    pub(crate) busy: bool,
    /// When it was last used; counted up.
    pub(crate) used: u64,
}

/// Where a new sequence goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    /// The slot that holds the same beginning.
    pub(crate) donor: usize,
    /// The slot it gets.
    pub(crate) slot: usize,
    /// The tokens that it need not compute.
    pub(crate) shared: usize,
}

/// The length of what two sequences have in common at their beginning.
pub(crate) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Finds a place for a prompt of which at most `usable` tokens need not be computed; none where no
/// slot is free, or where one of the `coming` prompts will soon have computed more of it than any
/// slot has now.
pub(crate) fn place<'a>(
    slots: &[Slot],
    prompt: &[u32],
    usable: usize,
    coming: impl Iterator<Item = &'a [u32]>,
) -> Option<Placement> {
    let usable = &prompt[..usable];
    let shared = |index: usize| common(&slots[index].tokens, usable);
    let donor = (0..slots.len()).max_by_key(|index| (shared(*index), std::cmp::Reverse(*index)))?;
    let found = shared(donor);
    let promised = coming.map(|other| common(other, usable)).max().unwrap_or(0);
    if promised >= found + WORTH_WAITING {
        return None;
    }
    let free = |index: &usize| !slots[*index].busy;
    // A sequence that ends where the new one goes on loses nothing by being continued.
    let continues = |index: &usize| slots[*index].tokens.len() == found && free(index);
    let oldest = (0..slots.len())
        .filter(free)
        .min_by_key(|index| (*index == donor && found > 0, slots[*index].used));
    let slot = Some(donor).filter(continues).or(oldest)?;
    Some(Placement { donor, slot, shared: found })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(tokens: &[u32], busy: bool, used: u64) -> Slot {
        Slot { tokens: tokens.to_vec(), busy, used }
    }

    fn placed(slots: &[Slot], prompt: &[u32], coming: &[&[u32]]) -> Option<Placement> {
        place(slots, prompt, prompt.len() - 1, coming.iter().copied())
    }

    #[test]
    fn the_longest_beginning_is_taken_over() {
        let slots = [slot(&[1, 2, 3], false, 5), slot(&[1, 2], true, 6), slot(&[9], false, 7)];
        let found = placed(&slots, &[1, 2, 3, 4], &[]).unwrap();
        assert_eq!(found, Placement { donor: 0, slot: 0, shared: 3 });
        // The last token is always computed: its scores are asked for. What is longer stays.
        let found = placed(&slots, &[1, 2, 3], &[]).unwrap();
        assert_eq!(found, Placement { donor: 0, slot: 2, shared: 2 });
    }

    #[test]
    fn without_a_free_slot_there_is_no_place() {
        assert_eq!(placed(&[slot(&[1], true, 0)], &[1, 2], &[]), None);
        let slots = [slot(&[1, 2, 7], false, 1), slot(&[], true, 2)];
        let found = placed(&slots, &[1, 2, 3], &[]).unwrap();
        assert_eq!(found, Placement { donor: 0, slot: 0, shared: 2 });
    }

    #[test]
    fn a_long_beginning_that_is_being_computed_is_waited_for() {
        let long: Vec<u32> = (0..40).collect();
        let slots = [slot(&long[..10], true, 0), slot(&[], false, 1)];
        assert_eq!(placed(&slots, &long, &[&long]), None);
        let nearly = [slot(&long[..30], true, 0), slot(&[], false, 1)];
        assert_eq!(placed(&nearly, &long, &[&long]).unwrap().shared, 30);
    }
}
