//! `/v1/completions`: every number that comes out is the model's.

use serde_json::{Value, json};
use terrace_completion::Bigram;

use crate::bigram;
use crate::host::Host;

/// Holds a choice with scores against the closed form; `scored` are the tokens it has to be about, of
/// which the first `given` have no score.
pub(crate) fn check_scores(model: &Bigram, logprobs: &Value, before: Option<u32>, ids: &[u32]) {
    let list = |key: &str| logprobs[key].as_array().unwrap().clone();
    let (tokens, numbers) = (list("tokens"), list("token_logprobs"));
    let (tops, offsets) = (list("top_logprobs"), list("text_offset"));
    for entries in [&tokens, &numbers, &tops, &offsets] {
        assert_eq!(entries.len(), ids.len());
    }
    let pieces = bigram::pieces();
    for (place, id) in ids.iter().enumerate() {
        assert_eq!(tokens[place], pieces[*id as usize].as_str());
        let before = if place == 0 { before } else { Some(ids[place - 1]) };
        let Some(before) = before else {
            assert!(numbers[place].is_null() && tops[place].is_null());
            continue;
        };
        let exact = f64::from(model.log_probability(before, *id));
        assert_eq!(numbers[place].as_f64(), Some(exact));
        let top = tops[place].as_object().unwrap();
        assert_eq!(top[&pieces[*id as usize]].as_f64(), Some(exact), "the identical number");
        let best = top.values().map(|value| value.as_f64().unwrap()).fold(f64::MIN, f64::max);
        let likeliest = model.likeliest(before);
        assert_eq!(best, f64::from(model.log_probability(before, likeliest)));
    }
}

/// What `lm_eval` sends to score options.
#[test]
fn echoed_prompts_have_an_entry_for_each_token_and_the_generated_one() {
    let (host, model) = (Host::start(), bigram::model());
    let prompts = [vec![1, 40, 41, 70, 99, 98], vec![50], vec![0, 33, 34]];
    let reply = host.complete(&json!({
        "model": "bigram", "prompt": prompts, "temperature": 0, "max_tokens": 1, "logprobs": 1,
        "seed": 1234, "echo": true, "unknown": {"x": [1]},
    }));
    assert_eq!(reply["object"], "text_completion");
    assert_eq!(reply["model"], "bigram");
    assert_eq!(reply["choices"].as_array().unwrap().len(), 3);
    let pieces = bigram::pieces();
    for (index, prompt) in prompts.iter().enumerate() {
        let choice = &reply["choices"][index];
        assert_eq!(choice["index"], index);
        let next = model.likeliest(prompt[prompt.len() - 1]);
        let ids = [prompt.as_slice(), &[next]].concat();
        check_scores(&model, &choice["logprobs"], None, &ids);
        let written = if next == 0 { prompt.as_slice() } else { &ids };
        let text: String = written.iter().map(|id| pieces[*id as usize].as_str()).collect();
        assert_eq!(choice["text"], text);
        let lengths = ids.iter().map(|id| pieces[*id as usize].chars().count());
        let offsets: Vec<usize> = lengths
            .scan(0, |at, length| {
                *at += length;
                Some(*at - length)
            })
            .collect();
        assert_eq!(choice["logprobs"]["text_offset"], json!(offsets));
    }
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13});
    assert_eq!(reply["usage"], usage);
}

#[test]
fn nothing_generated_gives_the_scores_of_the_prompt_alone() {
    let (host, model) = (Host::start(), bigram::model());
    let body = json!({"prompt": [3, 4, 5], "max_tokens": 0, "logprobs": true, "echo": true});
    let reply = host.complete(&body);
    check_scores(&model, &reply["choices"][0]["logprobs"], None, &[3, 4, 5]);
    let silent = host.complete(&json!({"prompt": [3, 4, 5], "max_tokens": 0}));
    assert_eq!(silent["choices"][0]["text"], "");
    assert!(silent["choices"][0]["logprobs"].is_null());
}

#[test]
fn greedy_texts_are_the_likeliest_and_score_as_greedy() {
    let (host, model) = (Host::start(), bigram::model());
    let body = json!({"prompt": "in the 数据", "max_tokens": 20, "temperature": 0.0,
                      "logprobs": 0, "ignore_eos": true});
    let reply = host.complete(&body);
    let choice = &reply["choices"][0];
    let home = tempfile::tempdir().unwrap();
    let prompt = bigram::tokenizer(home.path()).encode("in the 数据").unwrap();
    let mut ids = prompt.clone();
    for _ in 0..20 {
        ids.push(model.likeliest(*ids.last().unwrap()));
    }
    let generated = &ids[prompt.len()..];
    check_scores(&model, &choice["logprobs"], prompt.last().copied(), generated);
    assert_eq!(choice["logprobs"]["text_offset"][0], 9, "counted from the prompt's beginning");
    assert_eq!(choice["finish_reason"], "length");
    let text: String = generated.iter().map(|id| bigram::pieces()[*id as usize].clone()).collect();
    assert_eq!(choice["text"], text);
}

#[test]
fn texts_and_lists_of_texts_give_what_their_ids_give() {
    let host = Host::start();
    let home = tempfile::tempdir().unwrap();
    let tokenizer = bigram::tokenizer(home.path());
    let texts = ["Question: a b", "你好", " leading space"];
    let ids: Vec<_> = texts.iter().map(|text| tokenizer.encode(text).unwrap()).collect();
    let ask = |prompt: Value| {
        let body = json!({"prompt": prompt, "max_tokens": 8, "temperature": 0, "logprobs": 2,
                          "echo": true});
        host.complete(&body)["choices"].clone()
    };
    let listed = ask(json!(texts));
    assert_eq!(listed, ask(json!(ids)));
    for (place, text) in texts.iter().enumerate() {
        let mut alone = ask(json!(text));
        assert_eq!(alone, ask(json!(ids[place])));
        alone[0]["index"] = json!(place);
        assert_eq!(alone[0], listed[place]);
        assert!(alone[0]["text"].as_str().unwrap().starts_with(text));
    }
}

#[test]
fn a_special_token_in_a_prompt_is_that_token() {
    let (host, model) = (Host::start(), bigram::model());
    let body = json!({"prompt": "a<end>b", "max_tokens": 0, "logprobs": 1, "echo": true});
    let choice = &host.complete(&body)["choices"][0];
    let id = |piece: &str| bigram::pieces().iter().position(|p| p == piece).unwrap() as u32;
    check_scores(&model, &choice["logprobs"], None, &[id("a"), 0, id("b")]);
    assert_eq!(choice["text"], "a<end>b");
}

#[test]
fn any_number_of_stops_cut_before_the_earliest() {
    let host = Host::start();
    let ask = |stop: Value| {
        let body = json!({"prompt": "Q: x", "max_tokens": 30, "temperature": 0, "stop": stop,
                          "ignore_eos": true});
        host.complete(&body)["choices"][0].clone()
    };
    let whole = ask(Value::Null);
    let text = whole["text"].as_str().unwrap();
    let third: String = text.chars().skip(2).take(2).collect();
    let expected = &text[..text.find(&third).unwrap()];
    for stop in [json!(third), json!(["\u{1}", "\u{2}", "\u{3}", "\u{4}", "\u{5}", third])] {
        let cut = ask(stop);
        assert_eq!(cut["text"], expected);
        assert_eq!(cut["finish_reason"], "stop");
    }
    assert_eq!(ask(json!([]))["text"], text);
}

#[test]
fn seeds_fix_a_draw_whatever_is_beside_it() {
    let host = Host::start();
    let ask = |prompt: Value, seed: Value| {
        let body = json!({"prompt": prompt, "max_tokens": 20, "temperature": 1.5, "top_p": 0.9,
                          "seed": seed, "ignore_eos": true});
        host.complete(&body)["choices"].clone()
    };
    let text = |choices: &Value, index: usize| choices[index]["text"].as_str().unwrap().to_owned();
    let alone = ask(json!("abc"), json!(7));
    let beside = ask(json!(["x", "abc"]), json!(7));
    assert_eq!(text(&alone, 0), text(&beside, 1));
    assert_ne!(text(&alone, 0), text(&ask(json!("abc"), json!(-7)), 0));
    let free = ask(json!(["abc", "abc"]), Value::Null);
    assert_ne!(text(&free, 0), text(&free, 1));
}

#[test]
fn tokens_are_written_as_ids_on_request() {
    let host = Host::start();
    let body = json!({"prompt": [5, 6], "max_tokens": 1, "logprobs": 3, "echo": true,
                      "temperature": 0, "return_tokens_as_token_ids": true});
    let logprobs = host.complete(&body)["choices"][0]["logprobs"].clone();
    assert_eq!(logprobs["tokens"][1], "token_id:6");
    assert!(logprobs["top_logprobs"][1]["token_id:6"].is_number());
}
