//! A conversation as one text, written by the model's own chat template.

use minijinja::{Environment, ErrorKind, context};
use serde::Serialize;

use crate::fields::Message;
use crate::refusal::Refusal;
use crate::{Error, Result, Texts};

/// A chat template that has been read.
pub(crate) struct Template(Environment<'static>);

/// A message as templates see it.
#[derive(Serialize)]
struct Turn<'a> {
    role: &'a str,
    content: &'a str,
}

impl<'a> Turn<'a> {
    fn of(message: &'a Message) -> Self {
        let content = message.content.as_ref().map_or("", |content| &content.0);
        Self { role: &message.role, content }
    }
}

impl Template {
    /// Reads a template with the settings that `transformers` reads it with.
    ///
    /// # Errors
    ///
    /// It is no template.
    pub(crate) fn new(text: String) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |reason: String| -> Result<String, _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, reason))
        });
        environment
            .add_template_owned("chat", text)
            .map_err(|error| Error::Template(error.to_string()))?;
        Ok(Self(environment))
    }

    /// Writes a conversation up to where the model's answer begins.
    ///
    /// A special token's text within a message becomes that token, as everywhere in a prompt.
    ///
    /// # Errors
    ///
    /// The template does not take such a conversation.
    pub(crate) fn write(&self, messages: &[Message], texts: &Texts) -> Result<String, Refusal> {
        let turns: Vec<Turn<'_>> = messages.iter().map(Turn::of).collect();
        let context = context! {
            messages => turns,
            add_generation_prompt => true,
            bos_token => texts.bos_token.as_deref().unwrap_or(""),
            eos_token => texts.eos_token.as_deref().unwrap_or(""),
            pad_token => texts.pad_token.as_deref().unwrap_or(""),
        };
        let written = self.0.get_template("chat").and_then(|template| template.render(context));
        written.map_err(|error| {
            let message = format!("the chat template does not take these messages: {error}");
            Refusal::field("messages", message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::Content;

    /// The shape of Yi's and most others' templates.
    const CHATML: &str = "{% for message in messages %}\n    {% if message['role'] == 'tool' %}\n\
        {{ raise_exception('no tools') }}{% endif %}\n\
        {{ '<|im_start|>' + message['role'] + '\\n' + message['content'].strip() + '<|im_end|>' }}\n\
        {% endfor %}\n{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

    fn message(role: &str, text: &str) -> Message {
        Message { role: role.to_owned(), content: Some(Content(text.to_owned())) }
    }

    #[test]
    fn a_conversation_is_written_as_transformers_writes_it() {
        let template = Template::new(CHATML.to_owned()).unwrap();
        let messages = [message("system", "Be brief."), message("user", " 你好 ")];
        let text = template.write(&messages, &Texts::default()).unwrap();
        let expected = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n你好<|im_end|>\n\
                        <|im_start|>assistant\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_a_template_refuses_is_the_clients_fault_and_a_broken_one_is_named() {
        let template = Template::new(CHATML.to_owned()).unwrap();
        let refusal = template.write(&[message("tool", "x")], &Texts::default()).unwrap_err();
        assert!(refusal.body()["error"]["message"].as_str().unwrap().contains("no tools"));
        assert_eq!(refusal.status, 400);
        let broken = Template::new("{% for %}".to_owned()).err().unwrap();
        assert!(broken.to_string().contains("chat template"), "{broken}");
    }
}
