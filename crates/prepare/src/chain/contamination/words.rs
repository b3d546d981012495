//! The words of a text, as documents and items are compared by.

use unicode_normalization::char::is_combining_mark;

use crate::chain::normalize::nfc;

/// Gives the words of a text in order: runs of letters and digits, without their case.
///
/// Whatever is neither letter nor digit ends a word and is nothing itself. Characters of Chinese and Japanese, which
/// have no spaces, are each a word; full-width forms of ASCII are as ASCII; accents that do not
/// compose with their letter, and marks that only hint at where a word may be cut, are nothing.
pub fn for_each_word(text: &str, mut each: impl FnMut(&str)) {
    let mut word = String::new();
    let mut end = |word: &mut String| {
        if !word.is_empty() {
            each(word);
            word.clear();
        }
    };
    let text = nfc(text);
    let mut rest: &str = &text;
    while let Some(&byte) = rest.as_bytes().first() {
        if byte.is_ascii() {
            // Most of most texts, a run at a time.
            let run = ascii_run(rest.as_bytes(), byte.is_ascii_alphanumeric());
            if byte.is_ascii_alphanumeric() {
                let begin = word.len();
                word.push_str(&rest[..run]);
                word[begin..].make_ascii_lowercase();
            } else {
                end(&mut word);
            }
            rest = &rest[run..];
            continue;
        }
        let mut characters = rest.chars();
        let character = narrow(characters.next().expect("there is a byte"));
        rest = characters.as_str();
        if stands_alone(character) {
            end(&mut word);
            word.push(character);
            end(&mut word);
        } else if character.is_alphanumeric() {
            word.extend(folded(character));
        } else if !is_nothing(character) {
            end(&mut word);
        }
    }
    end(&mut word);
}

/// How many bytes from the first are ASCII, and all letters and digits or none of them.
fn ascii_run(bytes: &[u8], alphanumeric: bool) -> usize {
    let goes_on = |byte: &u8| byte.is_ascii() && byte.is_ascii_alphanumeric() == alphanumeric;
    bytes.iter().position(|byte| !goes_on(byte)).unwrap_or(bytes.len())
}

/// A letter without its case: both of σ and ς are that of Σ, and ß is that of SS.
fn folded(character: char) -> impl Iterator<Item = char> {
    character.to_uppercase().flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric())
}

/// Full-width ASCII as ASCII.
fn narrow(character: char) -> char {
    match character {
        '\u{ff01}'..='\u{ff5e}' => {
            char::from_u32(u32::from(character) - 0xfee0).unwrap_or(character)
        }
        _ => character,
    }
}

/// Han characters, kana and bopomofo.
fn stands_alone(character: char) -> bool {
    matches!(
        character,
        '\u{3005}'..='\u{3007}'
            | '\u{3041}'..='\u{3096}'
            | '\u{30a1}'..='\u{30fa}'
            | '\u{30fc}'..='\u{30ff}'
            | '\u{3105}'..='\u{312f}'
            | '\u{31a0}'..='\u{31bf}'
            | '\u{31f0}'..='\u{31ff}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{4e00}'..='\u{9fff}'
            | '\u{f900}'..='\u{faff}'
            | '\u{ff66}'..='\u{ff9f}'
            | '\u{20000}'..='\u{323af}'
    )
}

/// Combining marks, soft hyphens and joiners: within a word, and not of it.
fn is_nothing(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{200c}' | '\u{200d}' | '\u{2060}')
        || is_combining_mark(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        for_each_word(text, |word| words.push(word.to_owned()));
        words
    }

    #[test]
    fn words_are_letters_and_digits_without_case() {
        for (text, expected) in [
            ("Hello, World! It's 3.5%", "hello world it s 3 5"),
            ("def f(x_1,y):\n\treturn  x_1+y", "def f x 1 y return x 1 y"),
            ("学而Time时习之, 不亦乐乎？", "学 而 time 时 习 之 不 亦 乐 乎"),
            ("ひらカナ〆々", "ひ ら カ ナ 〆 々"),
            ("ＡＢ１２，（x）", "ab12 x"),
            ("Straße STRASSE ΣΟΦΌΣ σοφός", "strasse strasse σοφόσ σοφόσ"),
            ("cafe\u{301} café CAFÉ", "café café café"),
            ("so\u{ad}ft नमस्ते", "soft नमसते"),
            ("... --- !", ""),
            ("한국어 단어", "한국어 단어"),
        ] {
            assert_eq!(words(text).join(" "), expected, "{text}");
        }
    }
}
