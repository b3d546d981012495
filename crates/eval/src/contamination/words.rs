//! The words that a template puts around every item.

/// Stands in place of words of a template: the record separator, which no text has.
pub(super) const BREAK: char = '\u{1e}';

/// What begins a part of a template that is not text, and what ends it.
const TAGS: [(&str, &str); 3] = [("{{", "}}"), ("{%", "%}"), ("{#", "#}")];

/// A template with a break in place of each piece of text that has a word.
///
/// Text within an expression stays, as does a template with a `raw` block, in which tags are text.
pub(super) fn without_words(template: &str) -> String {
    if template.contains("endraw") {
        return template.to_owned();
    }
    let mut bare = String::with_capacity(template.len());
    let mut rest = template;
    loop {
        let begin = TAGS.iter().filter_map(|(open, close)| Some((rest.find(open)?, *close))).min();
        let (length, close) = begin.unwrap_or((rest.len(), ""));
        let (text, tag) = rest.split_at(length);
        if text.contains(char::is_alphanumeric) {
            bare.push(BREAK);
        } else {
            bare.push_str(text);
        }
        if tag.is_empty() {
            return bare;
        }
        let end = end(tag, close);
        bare.push_str(&tag[..end]);
        rest = &tag[end..];
    }
}

/// Where the tag that a text begins with ends: not within quotes, nor within braces of its own.
fn end(tag: &str, close: &str) -> usize {
    let is_comment = close == "#}";
    let (mut quote, mut depth) = (None, 0_usize);
    let mut characters = tag.char_indices().skip(2);
    while let Some((place, character)) = characters.next() {
        let ends = quote.is_none() && depth == 0 && tag[place..].starts_with(close);
        if ends {
            return place + close.len();
        }
        match (quote, character) {
            _ if is_comment => {}
            (Some(_), '\\') => {
                characters.next();
            }
            (Some(open), _) => quote = quote.filter(|_| character != open),
            (None, '"' | '\'') => quote = Some(character),
            (None, '{') => depth += 1,
            (None, '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    tag.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_around_tags_become_breaks() {
        for (template, expected) in [
            ("Question: {{q}}\nAnswer:", "|{{q}}|"),
            ("{{a}}, {{b}}\n\n{{ c -}} ?", "{{a}}, {{b}}\n\n{{ c -}} ?"),
            ("A", "|"),
            ("", ""),
            ("数{{a}}", "|{{a}}"),
            ("{% if x %}yes{% else %}{{y}}{% endif %}", "{% if x %}|{% else %}{{y}}{% endif %}"),
            (r#"{{ "}} \" }}" ~ a }}B."#, r#"{{ "}} \" }}" ~ a }}|"#),
            ("{{ {'a': {'b': 1}}.a }}B", "{{ {'a': {'b': 1}}.a }}|"),
            ("{# it's {{ #}{{a}}x", "{# it's {{ #}{{a}}|"),
            ("{% raw %}{{ is text {% endraw %}", "{% raw %}{{ is text {% endraw %}"),
            ("x {{ a", "|{{ a"),
        ] {
            assert_eq!(without_words(template).replace(BREAK, "|"), expected, "{template}");
        }
    }
}
