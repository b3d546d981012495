//! Many clients at once, each with its own right answer.

use serde_json::json;

use crate::bigram;
use crate::completions::check_scores;
use crate::host::Host;

#[test]
fn sixty_four_clients_with_mixed_lengths_all_get_right_answers() {
    let host = Host::start();
    std::thread::scope(|scope| {
        for client in 0..64_u32 {
            let host = &host;
            scope.spawn(move || {
                let model = bigram::model();
                for round in 0..3_u32 {
                    let length = 1 + (client * 37 + round * 101) % 300;
                    let prompt: Vec<u32> =
                        (0..length).map(|i| 1 + (i * 7 + client + round) % 110).collect();
                    let new = (client + round) % 20 + 1;
                    let mut ids = prompt.clone();
                    for _ in 0..new {
                        ids.push(model.likeliest(*ids.last().unwrap()));
                    }
                    let reply = host.complete(&json!({
                        "prompt": prompt, "max_tokens": new, "temperature": 0, "logprobs": 1,
                        "echo": true, "ignore_eos": true,
                    }));
                    check_scores(&model, &reply["choices"][0]["logprobs"], None, &ids);
                }
            });
        }
    });
    assert_eq!(host.metric("terrace_queue_length"), 0.0);
    assert_eq!(host.metric("terrace_cancelled_total"), 0.0);
}
