use proptest::prelude::*;
use terrace_base::Seed;
use terrace_config::{Bytes, Packing};
use terrace_prepare::{Silent, run};

use crate::support::{config, corpus, manifest, prepare, shards, threads, tree, write};

#[test]
fn threads_and_memory_change_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut documents = corpus(700, 1);
    documents.extend_from_within(100..200);
    let held_out = documents.split_off(780);
    let inputs = ["parquet", "jsonl.zst"].map(|format| write(home.path(), format, &documents));
    let aside = home.path().join("aside");
    terrace_base::fs::create_dir_all(&aside).unwrap();
    for packing in [Packing::ConcatAndChunk, Packing::BestFit] {
        let mut config = config(&inputs);
        config.packing = packing;
        config.held_out = crate::support::named(&[write(&aside, "jsonl", &held_out)]);
        let mut expected = None;
        for (count, budget) in [(1, 1 << 30), (2, 1 << 30), (3, 1 << 30), (1, 1), (3, 100_000)] {
            config.memory_budget = Bytes(budget);
            let output = home.path().join(format!("{packing:?}-{count}-{budget}"));
            run(&config, &output, &threads(count), &Silent).unwrap();
            let found = tree(&output);
            assert!(found.len() > 6, "{:?}", found.keys());
            // The whole folder, manifests included.
            assert_eq!(&found, expected.get_or_insert_with(|| found.clone()));
        }
    }
}

#[test]
fn the_seed_changes_the_order_alone() {
    let home = tempfile::tempdir().unwrap();
    let input = write(home.path(), "jsonl", &corpus(200, 2));
    let mut config = config(&[input]);
    let [a, b] = [1, 2].map(|seed| {
        config.seed = Seed(seed);
        let output = home.path().join(seed.to_string());
        prepare(&config, &output).unwrap();
        output
    });
    assert_ne!(shards(&a), shards(&b));
    assert_ne!(crate::support::texts(&a), crate::support::texts(&b));
    let texts = |at| crate::support::sorted(crate::support::texts(at));
    assert_eq!(texts(&a), texts(&b));
    assert_eq!(manifest(&a).target_tokens, manifest(&b).target_tokens);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn the_order_of_rows_changes_nothing(
        order in Just((0..150usize).collect::<Vec<_>>()).prop_shuffle(),
        deduplicate in any::<bool>(),
    ) {
        let home = tempfile::tempdir().unwrap();
        let mut documents = corpus(100, 3);
        documents.extend_from_within(..50);
        let shuffled: Vec<String> = order.iter().map(|&i| documents[i].clone()).collect();
        let mut found = Vec::new();
        for (name, documents) in [("a", &documents), ("b", &shuffled)] {
            let folder = home.path().join(name);
            terrace_base::fs::create_dir_all(&folder).unwrap();
            let mut config = config(&[write(&folder, "parquet", documents)]);
            config.deduplicate = deduplicate;
            let output = folder.join("edition");
            prepare(&config, &output).unwrap();
            let manifest = manifest(&output);
            found.push((shards(&output), manifest.fingerprint, manifest.counts));
        }
        prop_assert_eq!(found[0].2.kept, if deduplicate { 100 } else { 150 });
        prop_assert_eq!(&found[0], &found[1]);
    }
}
