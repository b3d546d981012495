//! Every mistake is shown where it was made, with what to write instead.

use crate::common::{Home, RUN};
use terrace_config::{Diagnostic, Error, load, load_prepare};

/// The problems of a run file, which must have some.
fn problems(text: &str) -> Vec<Diagnostic> {
    match Home::new().load(text) {
        Err(Error::Invalid(problems)) => problems,
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("it loads:\n{text}"),
    }
}

/// Replaces a line of the small run, and checks the first problem: where it is, what it says.
#[track_caller]
fn check(replace: &str, by: &str, marked: &str, message: &str, help: &str) {
    assert_eq!(RUN.matches(replace).count(), 1, "{replace:?} does not occur once");
    let problems = problems(&RUN.replace(replace, by));
    let problem = &problems[0];
    assert_eq!(&problem.source_text[problem.span.clone()], marked, "{problem}");
    assert!(problem.message.contains(message), "{problem}");
    assert!(problem.help.as_deref().unwrap_or("").contains(help), "{problem}");
    let (line, _) = problem.line_and_column();
    assert!(problem.to_string().contains(&format!("run.toml:{line}:")), "{problem}");
}

#[test]
fn unknown_keys_come_with_a_suggestion() {
    check(
        "sequence_length = 10",
        "sequence_lenght = 10",
        "sequence_lenght",
        "unknown key `training.sequence_lenght`",
        "did you mean `sequence_length`?",
    );
    check(
        "name = \"small\"",
        "name = \"small\"\ncolour = 1",
        "colour",
        "unknown key `colour`",
        "the keys here are batch, checkpoint,",
    );
    check(
        "budget_tokens = \"1K\"",
        "budget_tokens = \"1K\"\nmixtures = 1",
        "mixtures",
        "unknown key `stages.0.mixtures`",
        "did you mean `mixture`?",
    );
    check(
        "rope_theta = 1e4",
        "rope_theta = 1e4\nrope_tetha = 1e4",
        "rope_tetha",
        "unknown key `model.architecture.rope_tetha`",
        "did you mean `rope_theta`?",
    );
}

#[test]
fn missing_keys_are_named_in_full() {
    let text = RUN.replace("sequence_length = 10", "");
    let problem = &problems(&text)[0];
    assert_eq!(problem.message, "the key `training.sequence_length` is missing");
    assert!(problem.source_text[problem.span.clone()].starts_with("[training]"));

    let text = RUN.replace("[optimizer]\nlearning_rate = 1e-3", "");
    assert_eq!(problems(&text)[0].message, "the key `optimizer` is missing");
    let text = RUN.replace("initial_tokens = 40", "");
    assert_eq!(problems(&text)[0].message, "the key `batch.initial_tokens` is missing");
    let text = RUN.replace("budget_tokens = \"1K\"", "");
    assert_eq!(problems(&text)[0].message, "the key `stages.0.budget_tokens` is missing");
}

#[test]
fn wrong_types_say_what_was_found_and_expected() {
    check(
        "sequence_length = 10",
        "sequence_length = \"ten\"",
        "\"ten\"",
        "`training.sequence_length`: found the string \"ten\", expected an integer",
        "",
    );
    check(
        "sequence_length = 10",
        "sequence_length = -10",
        "-10",
        "found the integer -10, expected an integer that is zero or more",
        "",
    );
    check(
        "sequence_length = 10",
        "sequence_length = 99999999999999999999",
        "99999999999999999999",
        "found an integer of more than 64 bits, expected an integer that is zero or more",
        "",
    );
    check(
        "name = \"small\"",
        "name = 2024-01-01",
        "2024-01-01",
        "`name`: found the date 2024-01-01, expected a string",
        "",
    );
    check(
        "learning_rate = 1e-3",
        "learning_rate = true",
        "true",
        "found `true`, expected a number",
        "",
    );
    check(
        "budget_tokens = \"1K\"",
        "budget_tokens = \"1 apple\"",
        "\"1 apple\"",
        "`stages.0.budget_tokens`: `1 apple` is not a token amount",
        "",
    );
    check(
        "budget_tokens = \"1K\"",
        "budget_tokens = [1]",
        "[1]",
        "found an array, expected a token amount",
        "",
    );
    check(
        "edition = \"data/code\"",
        "edition = \"\"",
        "\"\"",
        "`sources.code.edition`: a path cannot be empty",
        "",
    );
    check(
        "[training]",
        "[training]\nmemory_budget = \"16 apples\"",
        "\"16 apples\"",
        "is not an amount of bytes",
        "",
    );
    check(
        "text = 0.75",
        "text = -0.75",
        "-0.75",
        "`stages.0.mixture.text`: `-0.75` is negative",
        "",
    );
    check(
        "budget_tokens = \"1K\"",
        "budget_tokens = \"1K\"\nbatch = \"cary\"",
        "\"cary\"",
        "`cary` is neither \"carry\" nor a token amount",
        "",
    );
}

#[test]
fn words_are_checked() {
    check("\"plateau\"", "\"plato\"", "\"plato\"", "found \"plato\", expected \"fixed\" or", "");
    check("\"plateau\"", "\"step\"", "\"step\"", "found \"step\"", "did you mean \"steps\"?");
    check("\"plateau\"", "3", "3", "found the integer 3, expected \"fixed\" or \"steps\"", "");
    check(
        "[training]",
        "[training]\nprecision = \"bf16-mix\"",
        "\"bf16-mix\"",
        "found \"bf16-mix\"",
        "did you mean \"bf16-mixed\"?",
    );
    check(
        "name = \"small\"",
        "name = \"small\"\ndevice = \"tpu\"",
        "\"tpu\"",
        "`tpu` is not a device",
        "",
    );
}

#[test]
fn syntax_errors_have_a_place() {
    let text = RUN.replace("sequence_length = 10", "sequence_length = = 10");
    let problem = &problems(&text)[0];
    assert_eq!(problem.line_and_column().0, text[..text.find("= =").unwrap()].lines().count());
}

#[test]
fn batches_are_whole_sequences() {
    check(
        "initial_tokens = 40",
        "initial_tokens = 45",
        "45",
        "`batch.initial_tokens`: 45 tokens are not whole sequences of 10",
        "the nearest batches are 40 and 50",
    );
    check(
        "initial_tokens = 40",
        "initial_tokens = 10",
        "10",
        "1 sequences are fewer than one micro-batch of 2",
        "lower training.micro_batch_sequences",
    );
    check(
        "maximum_tokens = 160",
        "maximum_tokens = 20",
        "20",
        "expected at least initial_tokens = 40",
        "",
    );
    check(
        "maximum_tokens = 160",
        "maximum_tokens = 160\ngrowth_factor = 1",
        "1",
        "`batch.growth_factor`: found 1, expected 2 or more",
        "",
    );
    check(
        "budget_tokens = \"1K\"",
        "budget_tokens = \"1K\"\nbatch = 320",
        "320",
        "320 is above batch.maximum_tokens",
        "",
    );
}

#[test]
fn schedules_begin_at_zero_and_ascend() {
    let steps = |schedule: &str| {
        RUN.replace("mode = \"plateau\"", &format!("mode = \"steps\"\n{schedule}"))
            .replace("initial_tokens = 40", "")
    };
    for (schedule, message) in [
        ("", "the key `batch.schedule` is missing"),
        ("schedule = \"100:40\"", "expected a first entry at 0"),
        ("schedule = \"\"", "expected a first entry at 0"),
        ("schedule = \"0:40 200:80 100:160\"", "expected entries in ascending order"),
        ("schedule = \"0:45\"", "45 tokens are not whole sequences"),
        ("schedule = \"40\"", "`40` is not tokens_seen:batch"),
        ("schedule = \"0:40\"\ninitial_tokens = 80", "differs from the schedule's first batch"),
    ] {
        let problem = &problems(&steps(schedule))[0];
        assert!(problem.message.contains(message), "{problem}");
    }
    Home::new().load(&steps("schedule = \"0:40 200:80\"")).unwrap();
}

#[test]
fn each_mode_says_what_it_lacks() {
    let mode = |name: &str, keys: &str| {
        RUN.replace("mode = \"plateau\"", &format!("mode = \"{name}\"\n{keys}"))
    };
    for (text, message, help) in [
        (mode("ramp", ""), "the key `batch.ramp_tokens` is missing", "ramp_tokens = \"4B\""),
        (
            mode("ramp", "ramp_tokens = 100").replace("maximum_tokens = 160", ""),
            "the key `batch.maximum_tokens` is missing in mode ramp",
            "",
        ),
        (
            mode("ramp", "ramp_tokens = 100\nramp_increment_tokens = 15"),
            "15 tokens are not whole sequences of 10",
            "",
        ),
        (
            mode("ramp", "ramp_tokens = 1000\nramp_increment_tokens = 10")
                .replace("maximum_tokens = 160", "maximum_tokens = 100000"),
            "more than 1000 increments",
            "write a larger increment",
        ),
        (
            mode("gns-sqrt", "noise_scale = false"),
            "`batch.noise_scale` is false, but mode gns-sqrt goes by the noise scale",
            "write true",
        ),
        (
            mode("hybrid", "").replace("initial_tokens = 40", "initial_tokens = 20"),
            "`batch.initial_tokens`: one micro-batch, but mode hybrid needs two",
            "lower training.micro_batch_sequences",
        ),
        (
            mode("loss-law", "half_life_tokens = 0"),
            "`batch.half_life_tokens`: found 0, expected 1 or more",
            "",
        ),
        (
            mode("gns-sqrt", "").replace("maximum_tokens = 160", ""),
            "the key `batch.maximum_tokens` is missing in mode gns-sqrt",
            "",
        ),
        (mode("loss-law", "loss_law = { exponent = 0.0 }"), "batch.loss_law.exponent", ""),
        (mode("sqrt", ""), "sqrt", ""),
        (mode("plateau", "coupling = { beta2 = \"yes\" }"), "yes", ""),
    ] {
        let problem = &problems(&text)[0];
        assert!(problem.message.contains(message), "{message}: {problem}");
        assert!(problem.help.as_deref().unwrap_or_default().contains(help), "{problem}");
    }
    // The loss law needs no noise scale, so one micro-batch will do.
    let keys = "noise_scale = false\nadvisor = \"loss-law\"";
    let text = mode("hybrid", keys).replace("initial_tokens = 40", "initial_tokens = 20");
    Home::new().load(&text).unwrap();
    let ramp = mode("ramp", "ramp_tokens = 100");
    let text = ramp.replace("budget_tokens = \"1K\"", "budget_tokens = \"1K\"\nbatch = 40");
    assert!(problems(&text)[0].message.contains("mode \"ramp\" both say the batch"));
}

#[test]
fn stages_are_checked_against_the_rest() {
    check(
        "{ text = 0.75, code = 0.25 }",
        "{ txt = 0.75, code = 0.25 }",
        "0.75",
        "there is no source `txt`",
        "did you mean `text`?",
    );
    check(
        "{ text = 0.75, code = 0.25 }",
        "{ text = 0, code = 0.0 }",
        "{ text = 0, code = 0.0 }",
        "`stages.0.mixture`: all weights are zero",
        "",
    );
    check(
        "mixture_end = { code = 1 }",
        "mixture_end = { code = 0 }",
        "{ code = 0 }",
        "`stages.1.mixture_end`: all weights are zero",
        "",
    );
    check("name = \"two\"", "name = \"one\"", "\"one\"", "has the name \"one\" of stage 0", "");
    check(
        "budget_tokens = \"1K\"",
        "budget_tokens = 9",
        "9",
        "`stages.0.budget_tokens`: found 9, expected at least one sequence of 10",
        "",
    );
    check(
        "learning_rate = 1e-3",
        "learning_rate = 1e-3\nwarmup_tokens = 4_000",
        "4_000",
        "expected at most the run's 3005",
        "",
    );
}

#[test]
fn impossible_shapes_name_the_field() {
    check(
        "num_key_value_heads = 1",
        "num_key_value_heads = 3",
        "3",
        "2 query heads cannot share 3 key and value heads",
        "",
    );
    let no_model = RUN.replace("path = \"model\"", "");
    let (before, rest) = no_model.split_once("[model.architecture]").unwrap();
    let (_, after) = rest.split_once("[training]").unwrap();
    let problem = &problems(&format!("{before}[training]{after}"))[0];
    assert!(problem.message.contains("names neither a folder nor a shape"), "{problem}");
}

#[test]
fn several_problems_are_reported_together() {
    let text = RUN
        .replace("learning_rate = 1e-3", "learning_rate = 0.0\nbeta2 = 1.0")
        .replace("name = \"two\"", "name = \"one\"");
    let problems = problems(&text);
    assert_eq!(problems.len(), 3, "{problems:#?}");
    let text = Error::Invalid(problems).to_string();
    assert_eq!(text.lines().count(), 3);
}

#[test]
fn a_missing_file_is_named() {
    let home = Home::new();
    let error = load(&home.path().join("absent.toml"), &[]).unwrap_err();
    assert!(matches!(&error, Error::Read { .. }));
    assert!(error.to_string().contains("absent.toml"));
}

#[test]
fn a_prepare_file_is_checked_too() {
    let home = Home::new();
    let valid = "source = \"x\"\ntokenizer = \"t.json\"\nsequence_length = 8\n\
                 inputs = [{ paths = [\"a/*.parquet\", \"s3://b/c.jsonl.zst\"] }]\n";
    let path = home.write("prepare.toml", valid);
    let config = load_prepare(&path, &[]).unwrap().config;
    let local = home.path().join("a/*.parquet").to_string_lossy().into_owned();
    assert_eq!(config.inputs[0].paths, [local.as_str(), "s3://b/c.jsonl.zst"]);

    for (from, to, message) in [
        ("sequence_length", "sequence_size", "unknown key `sequence_size`"),
        ("sequence_length = 8", "sequence_length = 0", "`sequence_length`: found 0"),
        ("[\"a/*.parquet\", \"s3://b/c.jsonl.zst\"]", "[]", "`inputs.0.paths` is empty"),
        (
            "sequence_length = 8",
            "sequence_length = 8\nminimum_characters = 9\nmaximum_characters = 8",
            "expected at least minimum_characters = 9",
        ),
        ("] }]", "], format = \"csv\" }]", "found \"csv\", expected \"parquet\" or"),
        ("] }]\n", "] }]\n[contamination]\n", "`contamination.tasks` is missing"),
        ("] }]\n", "] }]\ncontamination = { tasks = [] }\n", "`contamination.tasks` is empty"),
        ("] }]\n", "] }]\ncontamination = { task = [] }\n", "did you mean `tasks`"),
        (
            "] }]\n",
            "] }]\ncontamination = { tasks = [\"https://x/a.toml\"] }\n",
            "`contamination.tasks.0`: found an address",
        ),
        (
            "] }]\n",
            "] }]\ncontamination = { tasks = [\"a\"], ngram = 4 }\n",
            "`contamination.ngram`: found 4, expected 5 to 64 words",
        ),
        (
            "] }]\n",
            "] }]\ncontamination = { tasks = [\"a\"], minimum_words = 0 }\n",
            "`contamination.minimum_words`: found 0",
        ),
        (
            "] }]\n",
            "] }]\ncontamination = { tasks = [\"a\"], maximum_items = 0 }\n",
            "`contamination.maximum_items`: found 0",
        ),
        (
            "] }]\n",
            "] }]\ncontamination = { tasks = [\"a\"], action = \"keep\" }\n",
            "found \"keep\", expected \"drop\" or \"flag\"",
        ),
    ] {
        let path = home.write("prepare.toml", &valid.replace(from, to));
        let error = load_prepare(&path, &[]).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn decays_and_spikes_that_make_no_sense_are_refused() {
    let decay = |decay: &str, marked: &str, message: &str| {
        let by = format!("budget_tokens = \"1K\"\ndecay = {{ {decay} }}");
        check("budget_tokens = \"1K\"", &by, marked, message, "");
    };
    decay("share = 1.5", "1.5", "`stages.0.decay.share`: found 1.5, expected a share");
    decay("share = 0", "0", "`stages.0.decay.share`: found 0, expected a share");
    decay("final_fraction = 1.0", "1.0", "expected a fraction from 0 to below 1");
    decay("shape = \"sqrt\"", "\"sqrt\"", "1-sqrt");
    let spikes = |key: &str, marked: &str, message: &str| {
        let by = format!("[spikes]\n{key}\n[optimizer]\nlearning_rate = 1e-3");
        check("[optimizer]\nlearning_rate = 1e-3", &by, marked, message, "");
    };
    spikes("threshold = 0", "0", "`spikes.threshold`: found 0, expected a number above zero");
    spikes("window_steps = 3", "3", "`spikes.window_steps`: found 3, expected at least 4");
    spikes("minimum_nats = -1.0", "-1.0", "expected a number that is zero or more");
    spikes("rewind_after_steps = 0", "0", "found 0, expected at least 1");
    spikes("policy = \"rewind\"\nrewind_after_steps = 6", "6", "max_consecutive_bad_steps = 5");
    spikes("policy = \"rewinds\"", "\"rewinds\"", "rewind");
}

#[test]
fn formats_that_a_run_cannot_have_are_refused() {
    let training = |keys: &str, marked: &str, message: &str, help: &str| {
        check("[training]", &format!("[training]\n{keys}"), marked, message, help);
    };
    let clipping = "gradient_clipping = \"per-layer\"\ngradient_release = true";
    training(clipping, "true", "spikes.policy = \"record\" keeps none", "policy = \"rewind\"");
    let released = RUN.replace("[training]", &format!("[training]\n{clipping}"));
    let spikes = |steps| {
        format!("{released}\n[spikes]\npolicy = \"rewind\"\nrewind_after_steps = {steps}\n")
    };
    assert!(Home::new().load(&spikes(1)).is_ok());
    let problem = &problems(&spikes(2))[0];
    assert!(problem.message.contains("rewind_after_steps = 2 goes back"), "{problem}");
    assert!(problem.help.as_deref().unwrap_or("").contains("rewind_after_steps = 1"), "{problem}");
    let release = "gradient_release = true";
    training(
        release,
        "true",
        "gradient_clipping = \"global\" scales by that norm",
        "previous-norm",
    );
    let on_wgpu = RUN.replace("name = \"small\"", "name = \"small\"\ndevice = \"wgpu\"");
    for (section, key) in [("[training]", "precision"), ("[optimizer]", "moments")] {
        let run = on_wgpu.replace(section, &format!("{section}\n{key} = \"bf16\""));
        let problems = problems(&run);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].message.contains("wgpu has no bf16"), "{}", problems[0]);
        assert_eq!(&problems[0].source_text[problems[0].span.clone()], "\"bf16\"");
    }
}

#[test]
fn an_evaluation_that_makes_no_sense_is_refused() {
    let evaluation = |key: &str, marked: &str, message: &str| {
        let by = format!("[evaluation]\n{key}\n[optimizer]\nlearning_rate = 1e-3");
        check("[optimizer]\nlearning_rate = 1e-3", &by, marked, message, "");
    };
    evaluation("limit = 0", "0", "`evaluation.limit`: found 0, expected at least 1");
    evaluation("requests_at_once = 0", "0", "found 0, expected at least 1");
    evaluation("tasks = [\"a\", \"b\", \"a\"]", "\"a\"", "is written twice");
    evaluation("context_length = 1_000_000", "1_000_000", "expected at most the model's");
    evaluation("every = 3", "every", "unknown key `evaluation.every`");
    // Without a folder there is no tokenizer, unless one is named.
    let by = "[evaluation]\ntasks = [\"a\"]\n[optimizer]\nlearning_rate = 1e-3";
    let text = RUN.replace("[optimizer]\nlearning_rate = 1e-3", by).replace("path = \"model\"", "");
    assert!(problems(&text)[0].message.contains("the run has no tokenizer"));
}
