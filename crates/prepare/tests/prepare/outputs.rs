use terrace_prepare::{Error, Options, Silent, run};

use crate::support::{config, corpus, named, prepare, shards, tree, write};

#[test]
fn an_edition_that_is_there_is_not_made_again() {
    let home = tempfile::tempdir().unwrap();
    let documents = corpus(60, 12);
    let input = write(home.path(), "jsonl", &documents);
    let mut config = config(std::slice::from_ref(&input));
    config.held_out = named(&[write(home.path(), "parquet", &documents[..5])]);
    let output = home.path().join("edition");
    let first = prepare(&config, &output).unwrap();
    assert!(!first.reused && first.documents_per_second > 0.0 && first.tokens_per_second > 0.0);
    let again = prepare(&config, &output).unwrap();
    assert!(again.reused);
    assert_eq!((again.manifest, again.held_out), (first.manifest, first.held_out));

    // Where the files lie and how they are named on the command line does not matter.
    let moved = home.path().join("elsewhere");
    terrace_base::fs::create_dir_all(&moved).unwrap();
    write(&moved, "jsonl", &documents);
    config.inputs = named(&[moved]);
    assert!(prepare(&config, &output).unwrap().reused);
    let force = Options { force: true, ..Options::default() };
    assert!(!run(&config, &output, &force, &Silent).unwrap().reused);
}

#[test]
fn a_damaged_edition_is_made_again() {
    let home = tempfile::tempdir().unwrap();
    let documents = corpus(60, 13);
    let mut config = config(&[write(home.path(), "jsonl", &documents)]);
    config.held_out = named(&[write(home.path(), "parquet", &documents[..5])]);
    let output = home.path().join("edition");
    prepare(&config, &output).unwrap();
    let whole = tree(&output);
    for file in shards(&output).into_keys() {
        std::fs::remove_file(output.join(file)).unwrap();
        assert!(!prepare(&config, &output).unwrap().reused);
        assert_eq!(tree(&output), whole);
    }
}

#[test]
fn another_edition_or_anything_else_is_not_overwritten() {
    let home = tempfile::tempdir().unwrap();
    let documents = corpus(60, 14);
    let input = write(home.path(), "jsonl", &documents);
    let mut config = config(&[input]);
    let output = home.path().join("edition");
    prepare(&config, &output).unwrap();
    let before = tree(&output);

    config.sequence_length = 16;
    let error = prepare(&config, &output).unwrap_err().to_string();
    assert!(error.contains("sequence_length is 32, not 16"), "{error}");
    config.sequence_length = 32;
    config.inputs = named(&[write(home.path(), "jsonl", &documents[1..])]);
    let error = prepare(&config, &output).unwrap_err().to_string();
    assert!(error.contains("other inputs"), "{error}");
    assert_eq!(tree(&output), before);
    let force = Options { force: true, ..Options::default() };
    run(&config, &output, &force, &Silent).unwrap();
    assert_ne!(tree(&output), before);

    let precious = home.path().join("precious");
    terrace_base::fs::create_dir_all(&precious).unwrap();
    prepare(&config, &precious).unwrap();
    terrace_base::fs::remove_dir_all(&precious).unwrap();
    terrace_base::fs::create_dir_all(&precious).unwrap();
    terrace_base::fs::write_atomic(&precious.join("notes"), b"mine").unwrap();
    for output in [&precious, &precious.join("notes")] {
        let error = run(&config, output, &force, &Silent).unwrap_err();
        assert!(matches!(error, Error::OutputTaken { .. }), "{error}");
    }
    assert_eq!(std::fs::read(precious.join("notes")).unwrap(), b"mine");
}
