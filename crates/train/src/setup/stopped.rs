//! A run that is not training: where it stands, and what its configuration may become.

use terrace_base::{Tokens, format_grouped};
use terrace_checkpoint::{Checkpoint, LogPositions, RunLayout, RunLock, Store};
use terrace_config::{
    Loaded, MixFrom, MixtureFile, PlanOptions, Revision, RunConfig, RunPlan, Standing, gather,
    remix, resolve, revise,
};
use terrace_policy::batch::Decision;

use super::history::{History, Occasion, write};
use super::{batch_controller, mixture_schedule};
use crate::logs::{Evaluations, Logs};
use crate::{Error, RunState};

/// A run that is not training, at one of its checkpoints.
pub struct StoppedRun {
    /// Where its files are.
    pub layout: RunLayout,
    /// What it has followed.
    pub history: History,
    /// The configuration that it has followed last.
    pub in_force: Loaded<RunConfig>,
    /// The checkpoint that it goes on from; none if it was killed before it saved one.
    pub checkpoint: Option<Checkpoint>,
    /// Its state there.
    pub state: Option<RunState>,
    /// Where it stands there.
    pub standing: Standing,
}

/// A mixture that a run is to go on with.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixed {
    /// What changes, key by key.
    pub revision: Revision,
    /// The stage whose mixture it is, counted from zero.
    pub stage: usize,
    /// The tokens seen where it begins.
    pub from_tokens: Tokens,
    /// The entry in `decisions.jsonl`; none if nothing changes.
    pub decision: Option<Decision>,
}

impl StoppedRun {
    /// Opens the run at its newest valid checkpoint, or at the one of so many tokens.
    ///
    /// # Errors
    ///
    /// There is no run, or no such checkpoint, or none that is valid.
    pub fn open(layout: &RunLayout, at: Option<Tokens>) -> Result<Self, Error> {
        if !layout.is_run() {
            return Err(Error::NotARun { path: layout.root.clone() });
        }
        let history = History::open(layout)?;
        let in_force = history.in_force()?;
        let store = Store::open(layout.checkpoints());
        let listing = store.list()?;
        let checkpoint = match at {
            Some(at) => {
                let found = listing.checkpoints.iter().find(|c| c.tokens_seen() == at);
                let there = || listing.checkpoints.iter().map(|c| c.tokens_seen().0).collect();
                Some(found.cloned().ok_or_else(|| Error::NoSuchCheckpoint {
                    path: layout.root.clone(),
                    at: at.0,
                    there: there(),
                })?)
            }
            None if listing.checkpoints.is_empty() && listing.damaged.is_empty() => None,
            None => Some(store.newest_valid()?.checkpoint),
        };
        let state = checkpoint.as_ref().map(Checkpoint::state::<RunState>).transpose()?;
        let standing =
            state.as_ref().map_or_else(Standing::default, |s| standing(&in_force.config, s));
        Ok(Self { layout: layout.clone(), history, in_force, checkpoint, state, standing })
    }

    /// What becomes of the run if it goes on with another configuration.
    #[must_use]
    pub fn review(&self, wanted: &RunConfig) -> Revision {
        revise(&self.in_force.config, wanted, &self.standing)
    }

    /// The plan of a revised configuration, if the run can go on with it: its past is untouched and
    /// all caps are kept.
    ///
    /// # Errors
    ///
    /// What stands in the way.
    pub fn plan(&self, revised: &Loaded<RunConfig>) -> Result<RunPlan, Error> {
        let config = &revised.config;
        let plan = resolve(revised, &gather(config)?, &PlanOptions::default())?;
        if let Some(missing) = plan.missing.first() {
            return Err(Error::Missing {
                what: missing.name.clone(),
                path: missing.path.clone(),
                remedy: missing.remedy.clone(),
            });
        }
        if let Some(state) = &self.state {
            self.refuse_other_draws(state, config)?;
            mixture_schedule(config, &plan)?.validate(&state.cursor)?;
        }
        Ok(plan)
    }

    /// What is to be passed over is known by its place in the run: another order of draws would put
    /// other text there.
    fn refuse_other_draws(&self, state: &RunState, config: &RunConfig) -> Result<(), Error> {
        let here = state.cursor.index().0;
        let ahead = state.journal.skips().iter().find(|skip| skip.end > here);
        let Some(skip) = ahead.filter(|_| draws(config) != draws(&self.in_force.config)) else {
            return Ok(());
        };
        let length = config.training.sequence_length as u64;
        let reason = format!(
            "the run went back for a loss spike, and is to pass over the sequences {} to {}, which \
             another mixture would draw elsewhere; resume it until it has seen {} tokens, then change \
             the mixture",
            skip.start,
            skip.end - 1,
            format_grouped(skip.end * length)
        );
        Err(Error::Past { reason })
    }

    /// Has the run follow a revised configuration from its checkpoint on.
    ///
    /// # Errors
    ///
    /// Another process trains in the run directory, or it cannot be written.
    pub fn accept(
        &mut self,
        revised: &Loaded<RunConfig>,
        plan: &RunPlan,
        revision: &Revision,
    ) -> Result<(), Error> {
        let _lock = RunLock::acquire(&self.layout)?;
        let occasion = Occasion {
            event: "change",
            tokens_seen: self.standing.tokens_seen,
            changes: revision.changes.clone(),
            ..Occasion::default()
        };
        self.follow(&revised.config, plan, occasion)
    }

    /// Has the run draw by another mixture from some place on, and enters that into its logs.
    ///
    /// # Errors
    ///
    /// That place is in the past, a cap would be exceeded, another process trains in the run
    /// directory, or it cannot be written.
    pub fn mix(&mut self, from: MixFrom, mixture: &MixtureFile) -> Result<Mixed, Error> {
        let _lock = RunLock::acquire(&self.layout)?;
        let mut loaded = self.in_force.clone();
        loaded.config = remix(&self.in_force.config, &self.standing, from, mixture)
            .map_err(|reason| Error::Past { reason })?;
        let revision = self.review(&loaded.config);
        let plan = self.plan(&loaded)?;
        let stage = match from {
            MixFrom::NextStep => self.standing.stage,
            MixFrom::Stage(stage) => stage,
        };
        let begins = Tokens(plan.stages[stage].starts_at_tokens);
        let from_tokens = begins.max(self.standing.tokens_seen);
        let mut mixed = Mixed { revision, stage, from_tokens, decision: None };
        if mixed.revision.changes.is_empty() {
            return Ok(mixed);
        }
        let decision = self.decision(&mixed, mixture)?;
        mixed.decision = Some(decision.clone());
        let occasion = Occasion {
            event: "mix",
            tokens_seen: self.standing.tokens_seen,
            changes: mixed.revision.changes.clone(),
            decision: Some(decision),
            ..Occasion::default()
        };
        self.follow(&loaded.config, &plan, occasion)?;
        // As a resume would: what is behind the checkpoint is not part of the run.
        let positions = self.checkpoint.as_ref().map(Checkpoint::logs).transpose()?;
        let evaluations = Evaluations {
            wanted: false,
            at: self.checkpoint.as_ref().map(Checkpoint::tokens_seen),
        };
        let positions = positions.unwrap_or_else(LogPositions::new);
        let mut logs = Logs::open(&self.layout, &positions, evaluations)?;
        self.history.catch_up(&mut logs)?;
        logs.positions()?;
        Ok(mixed)
    }

    /// A killed process leaves the new run file without its entry here: then the difference is
    /// noticed as any edit is.
    fn follow(
        &mut self,
        config: &RunConfig,
        plan: &RunPlan,
        occasion: Occasion,
    ) -> Result<(), Error> {
        let plan = serde_json::to_string_pretty(plan).expect("plans always serialise");
        write(self.layout.plan(), &plan)?;
        write(self.layout.config(), &config.to_toml()?)?;
        self.history.record(occasion, config)
    }

    fn decision(&self, mixed: &Mixed, mixture: &MixtureFile) -> Result<Decision, Error> {
        let config = &self.in_force.config;
        let mut controller = batch_controller(config)?;
        if let Some(state) = &self.state {
            controller = controller.with_state(state.controller.clone());
        }
        let weights = controller.reference_weights().unwrap_or_default().to_vec();
        let mut decision = controller.on_mix_change(&weights, self.standing.tokens_seen);
        decision.stage = mixed.stage;
        decision.reason = format!(
            "stage `{}` draws {} from {} tokens on",
            config.stages[mixed.stage].name,
            words(mixture),
            format_grouped(mixed.from_tokens.0)
        );
        Ok(decision)
    }
}

/// What decides which text is drawn where.
fn draws(config: &RunConfig) -> Vec<impl PartialEq + '_> {
    let stages = config.stages.iter();
    stages.map(|s| (s.budget_tokens, &s.mixture, &s.mixture_end, &s.mixture_changes)).collect()
}

/// Where a run stands in the stages of its configuration.
fn standing(config: &RunConfig, state: &RunState) -> Standing {
    let length = config.training.sequence_length as u64;
    let progress = &state.progress;
    let done = config.stages.iter().take(progress.stage);
    let before: u64 = done.map(|stage| stage.sequences(length)).sum();
    // Not the sequences trained on: what was passed over is drawn as well.
    let drawn = state.cursor.index().0.saturating_sub(before);
    Standing {
        stage: progress.stage,
        entered: progress.entered,
        stage_tokens: Tokens(if progress.entered { drawn * length } else { 0 }),
        tokens_seen: progress.tokens_seen,
    }
}

fn words(mixture: &MixtureFile) -> String {
    let list = |weights: &terrace_config::Mixture| {
        let words: Vec<String> =
            weights.iter().map(|(name, weight)| format!("{name} {weight}")).collect();
        words.join(", ")
    };
    match &mixture.mixture_end {
        Some(end) => format!("{} (to {})", list(&mixture.mixture), list(end)),
        None => list(&mixture.mixture),
    }
}
