use proptest::prelude::*;

use super::*;

fn sources(layers: usize, selection: &str) -> Vec<usize> {
    let map = LayerMap::new(layers, &selection.parse().unwrap()).unwrap();
    map.layers().iter().map(|layer| layer.source).collect()
}

fn refusal(layers: usize, selection: &str) -> String {
    LayerMap::new(layers, &selection.parse().unwrap()).unwrap_err().to_string()
}

#[test]
fn yi_repeats_the_layers_from_12_to_28() {
    let map = LayerMap::new(32, &"12..28".parse().unwrap()).unwrap();
    assert_eq!(map.layers().len(), 48);
    assert_eq!(map.copies().collect::<Vec<_>>(), (28..44).collect::<Vec<_>>());
    assert_eq!(map.twins().collect::<Vec<_>>(), (12..28).zip(28..44).collect::<Vec<_>>());
    // Output layer j is layer j of the base below the seam and j - 16 above it.
    let expected: Vec<usize> = (0..48).map(|j| if j < 28 { j } else { j - 16 }).collect();
    assert_eq!(sources(32, "12..28"), expected);
}

#[test]
fn solar_is_a_range_by_another_name() {
    assert_eq!(sources(32, "solar 8"), sources(32, "8..24"));
    assert_eq!(sources(32, "0..24, 8..32"), sources(32, "solar 8"));
}

#[test]
fn llama_pro_puts_a_copy_behind_each_group() {
    assert_eq!(sources(6, "interleave 3"), [0, 1, 2, 2, 3, 4, 5, 5]);
    let map = LayerMap::new(32, &"interleave 4".parse().unwrap()).unwrap();
    assert_eq!(map.copies().collect::<Vec<_>>(), [4, 9, 14, 19, 24, 29, 34, 39]);
}

#[test]
fn stacks_and_slices_reuse_layers() {
    assert_eq!(sources(2, "stack 3"), [0, 1, 0, 1, 0, 1]);
    assert_eq!(sources(4, "0..3, 1..3, 1..4"), [0, 1, 2, 1, 2, 1, 2, 3]);
    let map = LayerMap::new(2, &"stack 3".parse().unwrap()).unwrap();
    assert_eq!(map.twins().collect::<Vec<_>>(), [(0, 2), (1, 3), (0, 4), (1, 5)]);
}

#[test]
fn what_makes_no_deeper_model_is_refused_with_a_remedy() {
    for (selection, expected) in [
        ("12..33", "reaches beyond the model: it has 32 layers"),
        ("12..12", "holds no layer"),
        ("28..12", "holds no layer"),
        ("0..10, 8..12, 14..32", "slice 3 begins with layer 14, but layer 12 has not been used"),
        ("1..20, 10..32", "begin at 0 or below"),
        ("0..32, 10..20", "end it with 32"),
        ("0..32,", "repeats no layer"),
        ("0..16, 16..32", "repeats no layer"),
        ("solar 16", "less than half"),
        ("stack 1", "at least 2"),
        ("stack 0", "at least 2"),
        ("interleave 5", "choose one of 1, 2, 4, 8, 16, 32"),
        ("interleave 0", "choose one of"),
    ] {
        let message = refusal(32, selection);
        assert!(message.contains(expected), "{selection}: {message}");
    }
}

#[test]
fn other_texts_are_refused() {
    for text in
        ["", "12", "12-28", "solar", "solar x", "12..28 x", "a..b", "stack -1", ",", "1..2,,"]
    {
        assert!(text.parse::<Selection>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn a_range_lengthens_the_model_by_its_length(a in 0usize..40, m in 1usize..40, above in 0usize..40) {
        let layers = a + m + above;
        let selection = Selection::Range(a..a + m);
        let map = LayerMap::new(layers, &selection).unwrap();
        prop_assert_eq!(map.layers().len(), layers + m);
        prop_assert_eq!(map.copies().collect::<Vec<_>>(), (a + m..a + 2 * m).collect::<Vec<_>>());
    }

    #[test]
    fn a_map_uses_every_layer_and_originals_keep_their_order(
        layers in 1usize..24,
        cuts in prop::collection::vec((0usize..24, 1usize..24), 1..6),
    ) {
        let slices: Vec<_> = cuts.iter().map(|(start, length)| *start..start + length).collect();
        if let Ok(map) = LayerMap::new(layers, &Selection::Slices(slices)) {
            let originals = map.layers().iter().filter(|layer| !layer.copy);
            let sources: Vec<usize> = originals.map(|layer| layer.source).collect();
            prop_assert_eq!(sources, (0..layers).collect::<Vec<_>>());
            prop_assert_eq!(map.copies().count(), map.layers().len() - layers);
            for (original, copy) in map.twins() {
                prop_assert!(original < copy);
                prop_assert_eq!(map.layers()[original].source, map.layers()[copy].source);
            }
        }
    }

    #[test]
    fn a_selection_reads_as_it_is_written(
        kind in 0usize..5,
        ranges in prop::collection::vec((0usize..99, 0usize..99), 1..4),
    ) {
        let number = ranges[0].0;
        let selection = match kind {
            0 => Selection::Range(ranges[0].0..ranges[0].1),
            1 => Selection::Solar(number),
            2 => Selection::Stack(number),
            3 => Selection::Interleave(number),
            _ => Selection::Slices(ranges.iter().map(|(a, b)| *a..*b).collect()),
        };
        prop_assert_eq!(selection.to_string().parse::<Selection>().unwrap(), selection);
    }
}
