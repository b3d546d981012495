//! The thread that owns the model: it takes requests between steps and passes on what comes out.

use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use terrace_completion::{Error, Event, LanguageModel, Request, RequestId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::metrics::Metrics;
use crate::refusal::Refusal;

/// What is said to the model's thread.
enum Message {
    Submit(Job),
    Cancel(Range<u64>),
}

/// A prompt on its way through the model.
struct Job {
    ticket: u64,
    request: Request,
    /// Which of the client's prompts it is.
    index: usize,
    answers: Pieces,
    /// Its place in the queue, given back before its end is told.
    place: OwnedSemaphorePermit,
}

/// Why an answer ends before its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The model does not take the request.
    Refused(Error),
    /// The model gave out.
    Broken(String),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => error.into(),
            Failure::Broken(reason) => Refusal::failed(&reason),
        }
    }
}

/// Where prompts are handed in.
#[derive(Clone)]
pub(crate) struct Desk {
    inbox: Sender<Message>,
    places: Arc<Semaphore>,
    limit: usize,
    tickets: Arc<AtomicU64>,
}

impl Desk {
    /// Takes places in the queue for so many prompts, all or none.
    pub(crate) fn places(&self, prompts: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let limit = self.limit;
        if prompts > limit {
            let message = format!("{prompts} prompts in one request, and the limit is {limit}");
            return Err(Refusal::field("prompt", message));
        }
        let wanted = u32::try_from(prompts).expect("the limit was checked");
        Arc::clone(&self.places).try_acquire_many_owned(wanted).map_err(|_| Refusal::full(limit))
    }

    /// Prompts that have a place.
    pub(crate) fn length(&self) -> usize {
        self.limit - self.places.available_permits()
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Hands the prompts in.
    ///
    /// # Panics
    ///
    /// There are more of them than places.
    pub(crate) fn submit(
        &self,
        requests: Vec<Request>,
        mut places: OwnedSemaphorePermit,
    ) -> Answers {
        let count = requests.len() as u64;
        let first = self.tickets.fetch_add(count, Ordering::Relaxed);
        let (answers, events) = mpsc::unbounded_channel();
        for (index, request) in requests.into_iter().enumerate() {
            let place = places.split(1).expect("a place for each prompt");
            let ticket = first + index as u64;
            let job = Job { ticket, request, index, answers: answers.clone(), place };
            // A thread that is gone drops the job, and the answers end.
            let _ = self.inbox.send(Message::Submit(job));
        }
        Answers { events, left: count as usize, tickets: first..first + count, desk: self.clone() }
    }
}

/// What comes back for a client's prompts; when it is dropped, what is not finished is cancelled.
pub(crate) struct Answers {
    events: mpsc::UnboundedReceiver<(usize, Result<Event, Failure>)>,
    /// Prompts that are not finished.
    left: usize,
    tickets: Range<u64>,
    desk: Desk,
}

impl Answers {
    /// The next piece, with the index of its prompt; none when all are finished.
    pub(crate) async fn next(&mut self) -> Option<Result<(usize, Event), Failure>> {
        if self.left == 0 {
            return None;
        }
        let Some((index, piece)) = self.events.recv().await else {
            return Some(Err(Failure::Broken("its thread has ended".to_owned())));
        };
        if matches!(piece, Ok(Event::Finished { .. })) {
            self.left -= 1;
        }
        Some(piece.map(|event| (index, event)))
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        if self.left > 0 {
            let _ = self.desk.inbox.send(Message::Cancel(self.tickets.clone()));
        }
    }
}

/// Starts the thread; it ends when every desk and every answer is gone, and `ended` with it.
pub(crate) fn start(
    model: Box<dyn LanguageModel + Send>,
    limit: usize,
    metrics: Arc<Metrics>,
) -> std::io::Result<(Desk, Receiver<()>)> {
    let (inbox, messages) = channel();
    let (alive, ended) = channel();
    let work = Work {
        model,
        messages,
        jobs: HashMap::new(),
        tickets: HashMap::new(),
        broken: None,
        metrics,
    };
    let run = move || {
        let _alive = alive;
        work.run();
    };
    std::thread::Builder::new().name("model".to_owned()).spawn(run)?;
    let places = Arc::new(Semaphore::new(limit));
    Ok((Desk { inbox, places, limit, tickets: Arc::default() }, ended))
}

/// The model and what it works on.
struct Work {
    model: Box<dyn LanguageModel + Send>,
    messages: Receiver<Message>,
    jobs: HashMap<RequestId, Job>,
    tickets: HashMap<u64, RequestId>,
    /// Why the model is asked nothing more.
    broken: Option<String>,
    metrics: Arc<Metrics>,
}

impl Work {
    fn run(mut self) {
        loop {
            if self.jobs.is_empty() {
                let Ok(message) = self.messages.recv() else { return };
                self.take(message);
            }
            loop {
                match self.messages.try_recv() {
                    Ok(message) => self.take(message),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            if !self.jobs.is_empty() {
                self.step();
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Submit(job) => self.submit(job),
            Message::Cancel(tickets) => tickets.for_each(|ticket| self.cancel(ticket)),
        }
    }

    fn submit(&mut self, job: Job) {
        let request = job.request.clone();
        match self.guarded(|model| model.submit(request)) {
            Ok(Ok(id)) => {
                self.metrics.prompt_tokens.add(job.request.prompt.len());
                self.tickets.insert(job.ticket, id);
                self.jobs.insert(id, job);
            }
            Ok(Err(error @ Error::Device(_))) => self.fail(&error.to_string(), Some(job)),
            Ok(Err(error)) => tell_end(job, Err(Failure::Refused(error))),
            Err(reason) => self.fail(&reason, Some(job)),
        }
    }

    fn cancel(&mut self, ticket: u64) {
        let Some(id) = self.tickets.remove(&ticket) else { return };
        self.jobs.remove(&id);
        self.metrics.cancelled.add(1);
        if let Err(reason) = self.guarded(|model| model.cancel(id)) {
            self.fail(&reason, None);
        }
    }

    fn step(&mut self) {
        match self.guarded(|model| (model.step(), model.pending())) {
            Ok((Ok(events), pending)) => {
                events.into_iter().for_each(|(id, event)| self.pass_on(id, event));
                if pending == 0 && !self.jobs.is_empty() {
                    self.fail("it left requests unanswered", None);
                }
            }
            Ok((Err(error), _)) => self.fail(&error.to_string(), None),
            Err(reason) => self.fail(&reason, None),
        }
    }

    fn pass_on(&mut self, id: RequestId, event: Event) {
        if !sound(&event) {
            return self.fail("a log-probability is not a number", None);
        }
        if matches!(event, Event::Finished { .. }) {
            let Some(job) = self.jobs.remove(&id) else { return };
            self.tickets.remove(&job.ticket);
            return tell_end(job, Ok(event));
        }
        let Some(job) = self.jobs.get(&id) else { return };
        if matches!(event, Event::Token { .. }) {
            self.metrics.generated_tokens.add(1);
        }
        tell(&job.answers, job.index, Ok(event));
    }

    /// Asks the model; a panic of it, or an earlier failure, comes back as its reason.
    fn guarded<T>(&mut self, ask: impl FnOnce(&mut dyn LanguageModel) -> T) -> Result<T, String> {
        if let Some(reason) = &self.broken {
            return Err(reason.clone());
        }
        let model = &mut *self.model;
        // What a panic leaves behind is not asked again.
        catch_unwind(AssertUnwindSafe(|| ask(model))).map_err(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            format!("panic: {}", text.unwrap_or_default())
        })
    }

    /// Gives the model up and tells everyone who waits for it.
    fn fail(&mut self, reason: &str, job: Option<Job>) {
        if self.broken.is_none() {
            tracing::error!(reason, "the model failed; nothing more is answered");
            self.metrics.model_failures.add(1);
            self.broken = Some(reason.to_owned());
        }
        self.tickets.clear();
        for job in self.jobs.drain().map(|(_, job)| job).chain(job) {
            tell_end(job, Err(Failure::Broken(reason.to_owned())));
        }
    }
}

/// Whether every probability of an event is one.
fn sound(event: &Event) -> bool {
    let scores = match event {
        Event::Prompt(scores) => scores.as_slice(),
        Event::Token { score, .. } => std::slice::from_ref(score),
        Event::Finished { .. } => &[],
    };
    let sound = |log_probability: f32| !log_probability.is_nan();
    scores
        .iter()
        .all(|score| sound(score.log_probability) && score.top.iter().all(|(_, log)| sound(*log)))
}

/// Where the pieces of answers go.
type Pieces = mpsc::UnboundedSender<(usize, Result<Event, Failure>)>;

/// A client that is gone does not listen; its cancellation is on its way.
fn tell(answers: &Pieces, index: usize, piece: Result<Event, Failure>) {
    let _ = answers.send((index, piece));
}

/// Tells the last piece. Who hears it and asks for the length of the queue finds the place free.
fn tell_end(job: Job, piece: Result<Event, Failure>) {
    let Job { index, answers, place, .. } = job;
    drop(place);
    tell(&answers, index, piece);
}
