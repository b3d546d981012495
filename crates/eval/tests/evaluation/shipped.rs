//! Each shipped task, with two items made by hand, asks what it should.

use std::path::Path;

use serde_json::Value;
use terrace_config::load_task;
use terrace_eval::prepare;

use crate::support::Home;

#[test]
fn every_shipped_task_asks_what_the_harness_would() {
    let tasks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/tasks");
    // Items, examples, and the prompts that the harness's wording makes of them.
    let cases: Vec<Value> = serde_json::from_str(include_str!("shipped.json")).unwrap();
    assert_eq!(cases.len(), std::fs::read_dir(&tasks).unwrap().count());
    for case in cases {
        let name = case["task"].as_str().unwrap();
        let home = Home::new();
        let items = home.path().join("{subset}-items.json");
        let examples = home.write("examples.json", &case["examples"].to_string());
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut set: Vec<(String, String)> = Vec::new();
        for pair in case["set"].as_array().unwrap() {
            set.push((text(&pair[0]), text(&pair[1])));
        }
        let mut task = load_task(&tasks.join(format!("{name}.toml")), &[]).unwrap().config;
        if let Some((_, shots)) = set.iter().find(|(key, _)| key == "fewshot.shots") {
            task.fewshot.shots = shots.parse().unwrap();
        }
        let mut subset = String::new();
        if let Some((_, subsets)) = set.iter().find(|(key, _)| key == "data.subsets") {
            let (name, title) = subsets.trim_matches(['{', '}', ' ']).split_once(" = ").unwrap();
            let title = title.trim_matches('"').to_owned();
            assert!(task.data.subsets.values().any(|known| *known == title), "{title}");
            subset.push_str(name);
            task.data.subsets = [(name.to_owned(), title)].into();
        }
        home.write(&format!("{subset}-items.json"), &case["items"].to_string());
        task.data.items = vec![items.to_str().unwrap().to_owned()];
        if !task.data.examples.is_empty() {
            task.data.examples = vec![examples.to_str().unwrap().to_owned()];
        }
        let prepared = prepare(&task, None).unwrap_or_else(|error| panic!("{error}"));
        let asks = case["asks"].as_array().unwrap();
        assert_eq!(prepared.len(), asks.len());
        for (item, expected) in prepared.iter().zip(asks) {
            let asked = serde_json::to_value(&item.ask).unwrap();
            for (key, expected) in expected.as_object().unwrap() {
                assert_eq!(asked[key], *expected, "{name}: {key}");
            }
        }
    }
}
