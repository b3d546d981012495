//! The text of tokens as they come.

use std::sync::Arc;

use terrace_tokenizer::{Error, Tokenizer};

/// So many of the prompt's last tokens are decoded with the first that is generated.
const CONTEXT_TOKENS: usize = 16;

/// What a decoder puts for bytes that are no character, or not yet.
const INCOMPLETE: char = '\u{FFFD}';

/// Decodes a continuation token by token: its text is that of prompt and continuation together,
/// without that of the prompt.
///
/// So a space at the beginning stays where decoding the continuation alone would drop it. A
/// character whose bytes are in several tokens comes with the last of them.
#[derive(Clone, Debug)]
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    /// The last tokens; enough of them that what comes next is decoded as in the whole.
    window: Vec<u32>,
    /// The tokens of the window whose text was complete before the last one.
    complete: usize,
    /// The bytes of the window's text that were given out or are the prompt's.
    given: usize,
}

impl Detokenizer {
    /// Begins behind a prompt.
    ///
    /// # Errors
    ///
    /// The prompt cannot be decoded.
    pub fn new(tokenizer: Arc<Tokenizer>, prompt: &[u32]) -> Result<Self, Error> {
        let known = tokenizer.vocab_size();
        let tail = &prompt[prompt.len().saturating_sub(CONTEXT_TOKENS)..];
        let window: Vec<u32> = tail.iter().copied().filter(|id| (*id as usize) < known).collect();
        let given = tokenizer.decode(&window)?.trim_end_matches(INCOMPLETE).len();
        Ok(Self { tokenizer, complete: window.len(), window, given })
    }

    /// Takes a token; gives the text that is certain by now. A token that the tokenizer does not
    /// know (a row that fills up the embedding) has none.
    ///
    /// # Errors
    ///
    /// The tokens cannot be decoded.
    pub fn push(&mut self, token: u32) -> Result<String, Error> {
        if token as usize >= self.tokenizer.vocab_size() {
            return Ok(String::new());
        }
        self.window.push(token);
        let text = self.tokenizer.decode(&self.window)?;
        let certain = text.trim_end_matches(INCOMPLETE).len();
        let piece = text[self.boundary(&text, certain)..certain].to_owned();
        self.given = self.given.max(certain);
        if certain == text.len() {
            self.move_window()?;
        }
        Ok(piece)
    }

    /// Ends the text; gives what is left of a character that never became whole, as the
    /// replacement character.
    ///
    /// # Errors
    ///
    /// The tokens cannot be decoded.
    pub fn finish(&mut self) -> Result<String, Error> {
        let text = self.tokenizer.decode(&self.window)?;
        let rest = text[self.boundary(&text, text.len())..].to_owned();
        self.given = self.given.max(text.len());
        Ok(rest)
    }

    /// Where in the text what was not given out begins, at `end` at the latest.
    ///
    /// Tokens for single bytes are decoded as a run, and a run that turns out to be no text as one
    /// replacement character for each byte: what was given out of it is then longer than it was.
    fn boundary(&self, text: &str, end: usize) -> usize {
        text.ceil_char_boundary(self.given).min(end)
    }

    /// Forgets what lies before the last token that followed a complete text.
    fn move_window(&mut self) -> Result<(), Error> {
        self.window.drain(..self.complete);
        self.complete = self.window.len();
        self.given = self.tokenizer.decode(&self.window)?.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    fn tokenizer(name: &str) -> Arc<Tokenizer> {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tokenizer/tests/fixtures");
        Arc::new(Tokenizer::load(&fixtures.join(name)).unwrap())
    }

    fn pieces(tokenizer: &Arc<Tokenizer>, prompt: &[u32], tokens: &[u32]) -> Vec<String> {
        let mut detokenizer = Detokenizer::new(tokenizer.clone(), prompt).unwrap();
        let mut pieces: Vec<String> =
            tokens.iter().map(|token| detokenizer.push(*token).unwrap()).collect();
        pieces.push(detokenizer.finish().unwrap());
        pieces
    }

    #[test]
    fn spaces_and_characters_are_whole() {
        for name in ["byte_level.json", "byte_fallback.json", "llama3_split.json"] {
            let tokenizer = tokenizer(name);
            let prompt = tokenizer.encode("def f(x):").unwrap();
            let text = "\n    return x  # 数学 🙂";
            let whole = tokenizer.encode(&format!("def f(x):{text}")).unwrap();
            // Where the tokens of the prompt are the first of the whole, nothing is ambiguous.
            let split = prompt.iter().zip(&whole).take_while(|(a, b)| a == b).count();
            let before = tokenizer.decode(&whole[..split]).unwrap();
            let found = pieces(&tokenizer, &whole[..split], &whole[split..]);
            let all = tokenizer.decode(&whole).unwrap();
            assert_eq!(found.concat(), all[before.len()..], "{name}");
            assert!(found.iter().all(|piece| !piece.contains(INCOMPLETE)), "{name}: {found:?}");
        }
    }

    #[test]
    fn a_character_that_never_becomes_whole_is_replaced_at_the_end() {
        let tokenizer = tokenizer("byte_level.json");
        let tokens = tokenizer.encode("a𓀀").unwrap();
        let (prompt, rest) = tokens.split_at(1);
        let found = pieces(&tokenizer, prompt, &rest[..rest.len() - 1]);
        assert!(found[..found.len() - 1].iter().all(String::is_empty), "{found:?}");
        assert!(found[found.len() - 1].contains(INCOMPLETE), "{found:?}");
    }

    #[test]
    fn text_behind_bytes_that_are_none_is_not_lost() {
        let tokenizer = tokenizer("byte_fallback.json");
        let id = |token: &str| tokenizer.token_id(token).unwrap();
        let (line, byte) = (id("<0x0A>"), id("<0xE6>"));
        let letters = tokenizer.encode("bb").unwrap();
        let tokens = [&[line, byte][..], &letters].concat();
        let found = pieces(&tokenizer, &letters, &tokens);
        assert!(found[0] == "\n" && found.concat().ends_with("bb"), "{found:?}");
    }

    static BYTE_FALLBACK: LazyLock<Arc<Tokenizer>> =
        LazyLock::new(|| tokenizer("byte_fallback.json"));
    static BYTE_LEVEL: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| tokenizer("byte_level.json"));

    proptest! {
        #[test]
        fn any_tokens_give_all_characters_of_their_text(
            tokens in prop::collection::vec(0u32..10_000, 1..24),
        ) {
            for tokenizer in [&*BYTE_FALLBACK, &*BYTE_LEVEL] {
                let size = tokenizer.vocab_size() as u32;
                let tokens: Vec<u32> = tokens.iter().map(|token| token % size).collect();
                let all = tokenizer.decode(&tokens).unwrap();
                let found = pieces(tokenizer, &[], &tokens).concat();
                let mut given = found.chars();
                for character in all.chars().filter(|c| *c != INCOMPLETE) {
                    prop_assert!(given.any(|c| c == character), "{all:?} {found:?}");
                }
            }
        }

        #[test]
        fn pieces_are_the_text_of_the_whole(text in "[a-z 数学\n🙂]{1,20}", at in 0usize..20) {
            let tokenizer = &*BYTE_LEVEL;
            let tokens = tokenizer.encode(&format!("x{text}")).unwrap();
            let at = at.min(tokens.len() - 1).max(1);
            let (prompt, rest) = tokens.split_at(at.min(tokens.len()));
            let before = tokenizer.decode(prompt).unwrap();
            let before = before.trim_end_matches(INCOMPLETE).len();
            let all = tokenizer.decode(&tokens).unwrap();
            prop_assert_eq!(pieces(tokenizer, prompt, rest).concat(), &all[before..]);
        }
    }
}
