//! The templates of a task, filled in.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use minijinja::value::{ValueKind, from_args};
use minijinja::{Environment, ErrorKind, State, UndefinedBehavior, Value};
use regex::Regex;

use crate::score::math;

/// Fills in templates as lm-evaluation-harness does: an unknown variable is an error, a line break at
/// the end is kept, nothing is escaped, and texts and lists have Python's methods.
///
/// Filters of our own: `regex_replace(PATTERN, BY)` and `last_boxed`, the content of the last `\boxed`.
pub(crate) struct Templates(Environment<'static>);

impl Templates {
    pub(crate) fn new() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_keep_trailing_newline(true);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_unknown_method_callback(method);
        // A pattern is the same for all items of a task, and takes longer to read than to apply.
        let patterns = Mutex::new(HashMap::new());
        environment.add_filter("regex_replace", move |text: &str, pattern: &str, by: &str| {
            regex_replace(&patterns, text, pattern, by)
        });
        environment
            .add_filter("last_boxed", |text: &str| math::last_boxed(text).unwrap_or_default());
        Self(environment)
    }

    /// The text of a template.
    pub(crate) fn text(&self, template: &str, variables: &Value) -> Result<String, String> {
        self.0
            .template_from_str(template)
            .and_then(|template| template.render(variables))
            .map_err(|error| words(&error))
    }

    /// The value of an expression.
    pub(crate) fn value(&self, expression: &str, variables: &Value) -> Result<Value, String> {
        self.0
            .compile_expression(expression)
            .and_then(|expression| expression.eval(variables))
            .map_err(|error| words(&error))
    }
}

fn words(error: &minijinja::Error) -> String {
    match (error.kind(), error.detail()) {
        (ErrorKind::UndefinedError, _) => {
            "names a field that the item has not, or that has no value".to_owned()
        }
        (_, Some(detail)) => detail.to_owned(),
        (kind, None) => kind.to_string(),
    }
}

fn method(
    state: &State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, minijinja::Error> {
    if method == "index" && value.kind() == ValueKind::Seq {
        let (wanted,): (Value,) = from_args(arguments)?;
        let place = value.try_iter()?.position(|element| element == wanted);
        return place.map(Value::from).ok_or_else(|| {
            let message = format!("{wanted} is not in the list {value}");
            minijinja::Error::new(ErrorKind::InvalidOperation, message)
        });
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments)
}

fn regex_replace(
    patterns: &Mutex<HashMap<String, Regex>>,
    text: &str,
    pattern: &str,
    by: &str,
) -> Result<String, minijinja::Error> {
    let mut patterns = patterns.lock().unwrap_or_else(PoisonError::into_inner);
    let regex = match patterns.get(pattern) {
        Some(regex) => regex,
        None => {
            let regex = Regex::new(pattern).map_err(|error| {
                minijinja::Error::new(ErrorKind::InvalidOperation, error.to_string())
            })?;
            patterns.entry(pattern.to_owned()).or_insert(regex)
        }
    };
    Ok(regex.replace_all(text, by).into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(template: &str, fields: serde_json::Value) -> Result<String, String> {
        Templates::new().text(template, &Value::from_serialize(fields))
    }

    #[test]
    fn pythons_methods_and_line_breaks_are_as_in_the_harness() {
        let fields = json!({"q": "  Why?\n", "c": {"label": ["A", "B"], "text": ["x", "<y>"]}});
        assert_eq!(text("{{q.strip()}}\nAnswer:\n", fields.clone()).unwrap(), "Why?\nAnswer:\n");
        assert_eq!(text("{{c.text[1]}} {{c['label'][0]}}", fields.clone()).unwrap(), "<y> A");
        assert_eq!(text("{{c.label.index('B')}}", fields.clone()).unwrap(), "1");
        assert_eq!(text("{{'then HE ran'.capitalize()}}", fields.clone()).unwrap(), "Then he ran");
        let error = text("{{question}}", fields.clone()).unwrap_err();
        assert!(error.contains("has not"), "{error}");
        assert!(text("{{c.label.index('C')}}", fields).unwrap_err().contains("not in the list"));
    }

    #[test]
    fn our_filters_work() {
        let fields = json!({"s": "a [step] b [title] c", "m": "so $\\boxed{\\frac{1}{2}}$."});
        assert_eq!(
            text(r"{{s | regex_replace('\\[.*?\\]', '')}}", fields.clone()).unwrap(),
            "a  b  c"
        );
        assert_eq!(text("{{m | last_boxed}}", fields).unwrap(), "\\frac{1}{2}");
    }
}
