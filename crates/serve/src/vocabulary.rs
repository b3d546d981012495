//! How tokens are written: each by itself, and where it stands in the text.

use std::collections::HashSet;
use std::sync::Arc;

use terrace_tokenizer::Tokenizer;

/// What a decoder writes for bytes that are no character.
const REPLACEMENT: char = '\u{fffd}';
/// The longest run of tokens that together make one character, and some more.
const LONGEST_RUN: usize = 8;

/// A tokenizer, with the text of each token as it is in the middle of a text.
pub(crate) struct Vocabulary {
    tokenizer: Arc<Tokenizer>,
    /// By id; none for a token that is part of a character.
    texts: Vec<Option<Box<str>>>,
    /// By id; whether another token with a lower id has the same text.
    taken: Vec<bool>,
}

impl Vocabulary {
    pub(crate) fn new(tokenizer: Arc<Tokenizer>) -> Self {
        let ids = 0..u32::try_from(tokenizer.vocab_size()).expect("ids are 32 bits");
        let anchor = ids
            .clone()
            .find(|id| {
                let letter =
                    |t: String| !t.is_empty() && t.chars().all(|c| c.is_ascii_alphabetic());
                !tokenizer.is_special(*id) && tokenizer.decode(&[*id]).is_ok_and(letter)
            })
            .unwrap_or(0);
        let before = tokenizer.decode(&[anchor]).unwrap_or_default();
        let text = |id: u32| {
            // Some decoders drop a space at the beginning of a text.
            let pair = tokenizer.decode(&[anchor, id]).unwrap_or_default();
            let text = match pair.strip_prefix(before.as_str()) {
                Some(text) => text.to_owned(),
                None => tokenizer.decode(&[id]).unwrap_or_default(),
            };
            (!text.contains(REPLACEMENT)).then(|| text.into_boxed_str())
        };
        let texts: Vec<Option<Box<str>>> = ids.map(text).collect();
        let taken = {
            let mut seen = HashSet::new();
            let taken =
                |text: &Option<Box<str>>| text.as_ref().is_some_and(|t| !seen.insert(t.clone()));
            texts.iter().map(taken).collect()
        };
        Self { tokenizer, texts, taken }
    }

    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// A token's text; where it has none of its own, `token_id:N`, so that no two names are equal.
    pub(crate) fn name(&self, id: u32) -> String {
        match self.texts.get(id as usize) {
            Some(Some(text)) if !self.taken[id as usize] => text.to_string(),
            _ => id_name(id),
        }
    }

    /// The text of some tokens; ids that the tokenizer does not know have none.
    pub(crate) fn text(&self, ids: &[u32]) -> String {
        let known: Vec<u32> =
            ids.iter().copied().filter(|id| (*id as usize) < self.texts.len()).collect();
        match self.tokenizer.decode(&known) {
            Ok(text) => text,
            Err(_) => known.iter().map(|id| self.name(*id)).collect(),
        }
    }
}

/// How a token is written whose text is not its own.
pub(crate) fn id_name(id: u32) -> String {
    format!("token_id:{id}")
}

/// Walks along a text and says where each token begins.
///
/// # Units
///
/// Characters from the beginning of the prompt. A token that is part of a character begins where the
/// character does.
pub(crate) struct Offsets<'v> {
    vocabulary: &'v Vocabulary,
    at: usize,
    begun: bool,
    /// Tokens that do not make whole characters yet.
    run: Vec<u32>,
}

impl<'v> Offsets<'v> {
    pub(crate) fn new(vocabulary: &'v Vocabulary) -> Self {
        Self { vocabulary, at: 0, begun: false, run: Vec::new() }
    }

    /// The place of the next token.
    pub(crate) fn next(&mut self, id: u32) -> usize {
        let first = !std::mem::replace(&mut self.begun, true);
        let Some(text) = self.vocabulary.texts.get(id as usize) else { return self.at };
        let Some(text) = text else { return self.next_part(id) };
        self.end_run();
        let place = self.at;
        self.at += if first { count(&self.vocabulary.text(&[id])) } else { count(text) };
        place
    }

    fn next_part(&mut self, id: u32) -> usize {
        let before = self.vocabulary.text(&self.run);
        let place = self.at + count(before.trim_end_matches(REPLACEMENT));
        self.run.push(id);
        let text = self.vocabulary.text(&self.run);
        if !text.contains(REPLACEMENT) || self.run.len() == LONGEST_RUN {
            self.end_run();
        }
        place
    }

    fn end_run(&mut self) {
        self.at += count(&self.vocabulary.text(&self.run));
        self.run.clear();
    }
}

fn count(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn vocabulary(name: &str) -> Vocabulary {
        let fixtures = "../tokenizer/tests/fixtures";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(fixtures).join(name);
        Vocabulary::new(Arc::new(Tokenizer::load(&path).unwrap()))
    }

    #[test]
    fn no_two_tokens_have_one_name() {
        for name in ["byte_level.json", "byte_fallback.json"] {
            let vocabulary = vocabulary(name);
            let ids = 0..vocabulary.texts.len() as u32 + 2;
            let names: HashSet<String> = ids.clone().map(|id| vocabulary.name(id)).collect();
            assert_eq!(names.len(), ids.len(), "{name}");
            let a = vocabulary.tokenizer.encode("of").unwrap();
            assert!(vocabulary.name(a[0]).trim().starts_with('o'), "{name}");
        }
    }

    #[test]
    fn offsets_are_where_the_text_of_the_tokens_before_ends() {
        // The tokenizer with `▁` puts a space before the text, which its decoder drops.
        for (name, dropped) in [("byte_level.json", 0), ("byte_fallback.json", 1)] {
            let vocabulary = vocabulary(name);
            let text = "Steps are for\n\n  display 你好, 鲸🙂 naïve";
            let ids = vocabulary.tokenizer.encode(text).unwrap();
            let lengths = vocabulary.tokenizer.byte_lengths();
            let mut offsets = Offsets::new(&vocabulary);
            let mut bytes = 0_usize;
            for (place, id) in ids.iter().enumerate() {
                let before = bytes.saturating_sub(dropped);
                let ended = |(at, c): &(usize, char)| at + c.len_utf8() <= before;
                let whole = text.char_indices().filter(ended).count();
                assert_eq!(offsets.next(*id), whole, "{name}: token {place}, byte {before}");
                bytes += lengths[*id as usize] as usize;
            }
            offsets.end_run();
            assert_eq!(offsets.at, vocabulary.text(&ids).chars().count());
        }
    }
}
