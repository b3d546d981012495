//! What a run file says of evaluation.

use super::Check;
use crate::node::KeyPath;
use crate::run::RunConfig;

impl Check<'_> {
    pub(super) fn evaluation(&mut self, config: &RunConfig) {
        let Some(evaluation) = &config.evaluation else { return };
        let path = KeyPath::new("evaluation");
        for (index, task) in evaluation.tasks.iter().enumerate() {
            if evaluation.tasks[..index].contains(task) {
                let path = path.child("tasks").child(index);
                let message = format!("{} is written twice", task.display());
                self.refuse(&path, message);
            }
        }
        for (key, value) in [
            ("evaluation.limit", evaluation.limit),
            ("evaluation.requests_at_once", Some(evaluation.requests_at_once)),
            ("evaluation.context_length", evaluation.context_length),
        ] {
            if let Some(value) = value {
                self.at_least_one(key, value as u64);
            }
        }
        let room = config.model.architecture.as_ref().map(|a| a.max_position_embeddings as usize);
        if let (Some(length), Some(room)) = (evaluation.context_length, room)
            && length > room
        {
            let path = path.child("context_length");
            let message = format!("`{path}`: found {length}, expected at most the model's {room}");
            self.refuse(&path, message);
        }
        if !evaluation.tasks.is_empty() && config.model.tokenizer_path().is_none() {
            self.refuse_with_help(
                &path.child("tasks"),
                "tasks are asked in text, and the run has no tokenizer",
                "write tokenizer = \"FILE\" in [model]: the one that the sources were prepared with"
                    .to_owned(),
            );
        }
    }
}
