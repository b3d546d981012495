//! What changes between the configuration that a run has followed and another one: what is still
//! to come may, the past may not.

mod classify;
mod remix;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use terrace_base::Tokens;

use crate::run::{RunConfig, Stage};

use self::classify::effect_of;
pub use self::remix::{MixFrom, remix};

/// Where a run stands when its configuration is revised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The current stage, counted from zero; the number of stages when all are done.
    pub stage: usize,
    /// Whether the current stage has begun.
    pub entered: bool,
    /// The tokens of the current stage that were drawn.
    pub stage_tokens: Tokens,
    /// The tokens seen.
    pub tokens_seen: Tokens,
}

/// What a change of a key means for a run that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "effect", content = "detail")]
pub enum Effect {
    /// No number of the run depends on it.
    Harmless,
    /// It holds for what is still to come; from where on.
    Ahead(String),
    /// It would change what has happened; why.
    Past(String),
}

/// One key that has another value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The path of keys, such as `stages.0.budget_tokens`.
    pub key: String,
    /// The value that the run has followed; null where it had none.
    pub old: Value,
    /// The value that it is to have; null where it is to have none.
    pub new: Value,
    /// What that means.
    #[serde(flatten)]
    pub effect: Effect,
}

/// A configuration that a run could go on with.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// The configuration, with the past as it was.
    pub config: RunConfig,
    /// What differs as written; empty if nothing does that has an effect.
    pub changes: Vec<Change>,
}

impl Revision {
    /// The changes that would touch the past; while there are some, the revision is not to be used.
    pub fn refused(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| matches!(change.effect, Effect::Past(_)))
    }

    /// Whether a key in this section changes.
    #[must_use]
    pub fn touches(&self, section: &str) -> bool {
        self.changes.iter().any(|change| is_in(&change.key, section))
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = |value: &Value| match value {
            Value::Null => "not set".to_owned(),
            value => value.to_string(),
        };
        write!(f, "{}: {} -> {} (", self.key, word(&self.old), word(&self.new))?;
        match &self.effect {
            Effect::Harmless => f.write_str("changes no number of the run)"),
            Effect::Ahead(from) => write!(f, "{from})"),
            Effect::Past(why) => write!(f, "refused: {why})"),
        }
    }
}

/// Brings a configuration to a run that has begun: `new` for what is to come, `old` for the past.
///
/// The mixture of the stage that a run is in is read as what is to be drawn from the next sequence
/// on: if it differs from what is drawn now, it becomes one of the stage's `mixture_changes`, and
/// what was drawn before stays as it was.
///
/// The run directory is not compared: a run may be moved, and a child has its own.
///
/// # Determinism
///
/// A pure function of its arguments.
#[must_use]
pub fn revise(old: &RunConfig, new: &RunConfig, standing: &Standing) -> Revision {
    let mut config = new.clone();
    let mut mixture_problem = None;
    if let (Some(was), Some(now)) = (current(old, standing), config.stages.get_mut(standing.stage))
    {
        match remix::carried(was, now, standing.stage_tokens, old.training.sequence_length) {
            Ok(changes) => {
                (now.mixture, now.mixture_end) = (was.mixture.clone(), was.mixture_end.clone());
                now.mixture_changes = changes;
            }
            Err(reason) => mixture_problem = Some(reason),
        }
    }
    let is_same = mixture_problem.is_none() && differences(old, &config).is_empty();
    let written = if is_same { Vec::new() } else { differences(old, new) };
    let changes = written.into_iter().map(|(key, old_value, new_value)| {
        let effect = effect_of(&key, (old, new), standing, mixture_problem.as_deref());
        Change { key, old: old_value, new: new_value, effect }
    });
    Revision { changes: changes.collect(), config }
}

/// The stage that has begun and of which something was drawn.
fn current<'a>(config: &'a RunConfig, standing: &Standing) -> Option<&'a Stage> {
    let has_begun = standing.entered && standing.stage_tokens.0 > 0;
    config.stages.get(standing.stage).filter(|_| has_begun)
}

/// Every key with another value in one than in the other, the run directory apart: the key, and
/// both values, null where there is none.
#[must_use]
pub fn differences(old: &RunConfig, new: &RunConfig) -> Vec<(String, Value, Value)> {
    let (old, new) = (leaves(old), leaves(new));
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    let value =
        |of: &BTreeMap<String, Value>, key: &String| of.get(key).cloned().unwrap_or_default();
    keys.into_iter()
        .map(|key| (key.clone(), value(&old, key), value(&new, key)))
        .filter(|(key, old, new)| old != new && key != "run_directory")
        .collect()
}

/// Whether a key is `section` or inside it.
fn is_in(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn leaves(config: &RunConfig) -> BTreeMap<String, Value> {
    let tree = serde_json::to_value(config).expect("a configuration is plain data");
    let mut found = BTreeMap::new();
    walk(&tree, String::new(), &mut found);
    found
}

fn walk(value: &Value, key: String, found: &mut BTreeMap<String, Value>) {
    let child = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| walk(value, child(name), found));
        }
        Value::Array(values) if values.iter().any(Value::is_object) => {
            let numbered = values.iter().enumerate();
            numbered.for_each(|(index, value)| walk(value, child(&index.to_string()), found));
        }
        Value::Null => {}
        leaf => {
            found.insert(key, leaf.clone());
        }
    }
}

#[cfg(test)]
mod tests;
