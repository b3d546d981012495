//! What every handler shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{SystemTime, UNIX_EPOCH};

use terrace_completion::{LanguageModel, ModelFacts};
use terrace_tokenizer::Tokenizer;

use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::template::Template;
use crate::vocabulary::Vocabulary;
use crate::worker::{self, Desk};
use crate::{Error, Limits, Result, Settings, Texts};

/// The server without its sockets.
pub(crate) struct App {
    pub(crate) model: String,
    pub(crate) api_key: Option<String>,
    pub(crate) texts: Texts,
    pub(crate) limits: Limits,
    pub(crate) facts: ModelFacts,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) template: Option<Template>,
    pub(crate) desk: Desk,
    pub(crate) metrics: Arc<Metrics>,
    /// Nothing new is taken.
    pub(crate) stopping: AtomicBool,
    /// Seconds since 1970.
    pub(crate) started: u64,
    replies: AtomicU64,
}

impl App {
    /// Checks the settings and starts the model's thread, with whose end the receiver's sender ends.
    ///
    /// # Errors
    ///
    /// A setting or the chat template makes no sense, or there is no thread.
    pub(crate) fn new(
        settings: Settings,
        model: Box<dyn LanguageModel + Send>,
        tokenizer: Arc<Tokenizer>,
    ) -> Result<(Self, Receiver<()>)> {
        settings.check()?;
        let Settings { model: name, api_key, mut texts, limits, .. } = settings;
        let template = texts.chat_template.clone().map(Template::new).transpose()?;
        let facts = model.facts().clone();
        let vocabulary = Vocabulary::new(tokenizer);
        if texts.eos_token.is_none() {
            let end = facts.end_of_text.first().map(|id| vocabulary.text(&[*id]));
            texts.eos_token = end.filter(|text| !text.is_empty());
        }
        let metrics = Arc::new(Metrics::default());
        let (desk, ended) =
            worker::start(model, limits.queue, Arc::clone(&metrics)).map_err(Error::Thread)?;
        let app = Self {
            model: name,
            api_key,
            texts,
            limits,
            facts,
            vocabulary,
            template,
            desk,
            metrics,
            stopping: AtomicBool::new(false),
            started: now(),
            replies: AtomicU64::new(0),
        };
        Ok((app, ended))
    }

    /// The ids of a client's text, in which special tokens are taken as such.
    pub(crate) fn encode(&self, field: &str, text: &str) -> Result<Vec<u32>, Refusal> {
        let encoded = self.vocabulary.tokenizer().encode_with_specials(text);
        encoded.map_err(|error| Refusal::field(field, error.to_string()))
    }

    /// A name for a reply that no other reply has.
    pub(crate) fn reply_name(&self, prefix: &str) -> String {
        let number = self.replies.fetch_add(1, Ordering::Relaxed);
        format!("{prefix}-{:x}-{number:x}", self.started)
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
