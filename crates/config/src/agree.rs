//! Whether the run file, the model folder and the editions fit together.

use crate::error::Diagnostic;
use crate::facts::{EditionFacts, Facts};
use crate::load::Loaded;
use crate::model::Architecture;
use crate::node::KeyPath;

/// The shape of the model that is trained: the folder's, or as written where the folder is not
/// there, and deeper if it is up-scaled.
pub(crate) fn architecture(facts: &Facts, loaded: &Loaded) -> Option<Architecture> {
    let base = base(facts, loaded)?.clone();
    match &loaded.config.model.upscale {
        Some(upscale) => upscale.deeper(&base).ok(),
        None => Some(base),
    }
}

/// The shape of the model that is begun with.
pub(crate) fn base<'a>(facts: &'a Facts, loaded: &'a Loaded) -> Option<&'a Architecture> {
    facts.architecture.as_ref().or(loaded.config.model.architecture.as_ref())
}

/// Everything that contradicts something else.
pub(crate) fn contradictions(loaded: &Loaded, facts: &Facts) -> Vec<Diagnostic> {
    let mut problems: Vec<Diagnostic> = shape_contradiction(loaded, facts).into_iter().collect();
    problems.extend(upscale_contradiction(loaded, facts));
    for (name, edition) in &facts.editions {
        problems.extend(edition_contradictions(loaded, facts, name, edition));
    }
    problems
}

fn shape_contradiction(loaded: &Loaded, facts: &Facts) -> Option<Diagnostic> {
    let model = &loaded.config.model;
    let (written, found) = (model.architecture.as_ref()?, facts.architecture.as_ref()?);
    let (field, ours, theirs) = written.first_difference(found)?;
    let path = KeyPath::new("model.architecture").child(field);
    let folder = model.path.as_ref()?.join("config.json");
    let message = format!("`{path}`: found {ours}, but {} has {theirs}", folder.display());
    let help = "leave [model.architecture] out to take the folder's shape".to_owned();
    Some(loaded.diagnostic(&path, message, Some(help)))
}

fn upscale_contradiction(loaded: &Loaded, facts: &Facts) -> Option<Diagnostic> {
    let upscale = loaded.config.model.upscale.as_ref()?;
    let error = upscale.map(base(facts, loaded)?).err()?;
    let path = KeyPath::new("model.upscale.layers");
    let help = "`terrace upscale --analyze` shows what repeating each range does".to_owned();
    Some(loaded.diagnostic(&path, format!("`{path}`: {error}"), Some(help)))
}

fn edition_contradictions(
    loaded: &Loaded,
    facts: &Facts,
    name: &str,
    edition: &EditionFacts,
) -> Vec<Diagnostic> {
    let config = &loaded.config;
    let path = KeyPath::new("sources").child(name).child("edition");
    let mut problems = Vec::new();
    let mut refuse = |message: String, help: &str| {
        problems.push(loaded.diagnostic(&path, message, Some(help.to_owned())));
    };

    let held_out = edition.held_out.as_ref();
    let lengths = [Some(edition.sequence_length), held_out.map(|part| part.sequence_length)];
    let expected = config.training.sequence_length as u64;
    if let Some(found) = lengths.into_iter().flatten().find(|found| *found != expected) {
        refuse(
            format!("{name:?} has windows of {found} tokens, but a sequence here has {expected}"),
            "prepare the source with this sequence_length, or change training.sequence_length",
        );
    }
    if let Some(architecture) = architecture(facts, loaded)
        && edition.vocab_size > architecture.vocab_size
    {
        refuse(
            format!(
                "{name:?} was tokenised with {} tokens, but the model knows {}",
                edition.vocab_size, architecture.vocab_size
            ),
            "prepare the source with the model's own tokenizer",
        );
    }
    let (first_name, first) = facts.editions.iter().next().expect("this edition is among them");
    let tokenizers = [Some(&edition.tokenizer), held_out.map(|part| &part.tokenizer)];
    if tokenizers.into_iter().flatten().any(|tokenizer| *tokenizer != first.tokenizer) {
        refuse(
            format!("{name:?} was tokenised with another tokenizer than {first_name:?}"),
            "prepare all sources with the model's own tokenizer",
        );
    }
    let used = config.stages.iter().any(|stage| stage.draws_from(name));
    if used && edition.windows == 0 {
        refuse(format!("{name:?} has no windows"), "prepare it from more text");
    }
    problems
}
