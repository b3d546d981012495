//! Final answers of mathematics in one form.
//!
//! The harness also counts as equal what a computer algebra system proves equal; here two answers are
//! the same if their forms are the same text.

/// The content of the last `\boxed{…}` (or `\fbox{…}`); none if there is none or it is not closed.
///
/// # Source
///
/// `last_boxed_only_string` and `remove_boxed` of lm-evaluation-harness's `minerva_math`.
pub(crate) fn last_boxed(text: &str) -> Option<String> {
    if text.contains("\\boxed ") {
        let rest = text.rsplit("\\boxed ").next()?;
        return rest.split('$').next().map(str::to_owned);
    }
    let start = text.rfind("\\boxed").or_else(|| text.rfind("\\fbox"))?;
    let mut depth = 0_u32;
    let mut begin = None;
    for (place, character) in text[start..].char_indices() {
        match character {
            '{' => {
                depth += 1;
                begin.get_or_insert(start + place + 1);
            }
            '}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(text[begin?..start + place].to_owned());
                }
            }
            _ => {}
        }
    }
    None
}

const SUBSTITUTIONS: [(&str, &str); 10] = [
    ("an ", ""),
    ("a ", ""),
    (".$", "$"),
    ("\\$", ""),
    ("\\ ", ""),
    (" ", ""),
    ("mbox", "text"),
    (",\\text{and}", ","),
    ("\\text{and}", ","),
    ("\\text{m}", "\\text{}"),
];

const REMOVED: [&str; 41] = [
    "square",
    "ways",
    "integers",
    "dollars",
    "mph",
    "inches",
    "ft",
    "hours",
    "km",
    "units",
    "\\ldots",
    "sue",
    "points",
    "feet",
    "minutes",
    "digits",
    "cents",
    "degrees",
    "cm",
    "gm",
    "pounds",
    "meters",
    "meals",
    "edges",
    "students",
    "childrentickets",
    "multiples",
    "\\text{s}",
    "\\text{.}",
    "\\text{\ns}",
    "\\text{}^2",
    "\\text{}^3",
    "\\text{\n}",
    "\\text{}",
    "\\mathrm{th}",
    "^\\circ",
    "^{\\circ}",
    "\\;",
    ",\\!",
    "{,}",
    "\"",
];

/// A final answer in one form.
///
/// # Source
///
/// `normalize_final_answer` of lm-evaluation-harness, which is appendix D of Lewkowycz et al. (2022).
pub(crate) fn normalize(answer: &str) -> String {
    let mut text = answer.rsplit('=').next().unwrap_or_default().to_owned();
    for (before, after) in SUBSTITUTIONS {
        text = text.replace(before, after);
    }
    for removed in REMOVED.into_iter().chain(["\\dots"]) {
        text = text.replace(removed, "");
    }
    for (pattern, by) in [
        (r"(.*?)(\$)(.*?)(\$)(.*)", "$$${3}$$"),
        (r"(\\text\{)(.*?)(\})", "${2}"),
        (r"(\\textbf\{)(.*?)(\})", "${2}"),
        (r"(\\overline\{)(.*?)(\})", "${2}"),
        (r"(\\boxed\{)(.*)(\})", "${2}"),
        (r"(frac)([^{])(.)", "frac{${2}}{${3}}"),
        (r"(sqrt)([^{])", "sqrt{${2}}"),
    ] {
        let pattern = regex::Regex::new(pattern).expect("a pattern that is written here");
        text = pattern.replace_all(&text, by).into_owned();
    }
    text = text.replace('$', "");
    let digits = text.replace(',', "");
    let is_number = !digits.is_empty() && digits.chars().all(|digit| digit.is_ascii_digit());
    if is_number { digits } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_box_is_opened() {
        assert_eq!(last_boxed(r"\boxed{1} or \boxed{\frac{1}{2}}.").unwrap(), r"\frac{1}{2}");
        assert_eq!(last_boxed(r"is $\boxed 5$ then").unwrap(), "5");
        assert_eq!(last_boxed(r"\fbox{x}").unwrap(), "x");
        assert_eq!(last_boxed(r"\boxed{1"), None);
        assert_eq!(last_boxed("nothing"), None);
    }

    #[test]
    fn forms_are_those_of_the_paper() {
        // What normalize_final_answer of the harness gives.
        for (answer, form) in [
            ("$x = 5$", "5"),
            ("[2,5)", "[2,5)"),
            ("$[2,5)$", "[2,5)"),
            (r"\frac12", r"\frac{1}{2}"),
            (r"\sqrt3", r"\sqrt{3}"),
            ("100,000", "100000"),
            (r"12\text{ cm}^2", "12"),
            (r"5\%", r"5\%"),
            ("a dozen dollars", "dozen"),
            (r"\text{Evelyn}", "Evelyn"),
            (r"90^\circ", "90"),
        ] {
            assert_eq!(normalize(answer), form, "{answer}");
        }
    }
}
