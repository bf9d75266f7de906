//! A process that runs until all is in sync and ends by itself, as `mill run` does: the code of `mill-run`, on the back ends of
//! the world.
//!
//! Its producer and its workman are two names of one process here, since the model tells producers from workmen by their names.
//! They share their statistics, and die together.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use futures::future::{Either, select};
use mill_model::{Monotonic, QueueName, SpacePair};
use mill_ports::{PollingProfile, Statistics, error_chain};
use mill_processors::Refusals;
use mill_producer::{DuplicationProducer, LoopingSettings, RunStart, WhenFull};
use mill_run::in_sync::{ClosingCheck, ProofNeeded, by_closing_survey};
use mill_run::progress::StateStandstill;
use mill_run::silence::one_answer_max;
use mill_run::until_done::{RunDeps, ended_early};
use mill_run::{InSync, RunProgress, RunReport, RunUntilDone, RunWorkers, StateWatch};
use mill_workman::{Heartbeat, StopSignal, Workman};
use mill_wrappers::TrackedStores;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::event::Event;
use super::fleet::{Polls, ProcessDeps, workman};
use super::sim_process::SimProcess;
use super::world::World;

/// How a run ended.
#[derive(Debug)]
pub(crate) enum RunEnd {
    /// It was killed.
    Died,
    /// It could not go on.
    Failed,
    /// It came to its end.
    Ended(Box<EndedRun>),
}

/// What a run that came to its end says.
#[derive(Debug)]
pub(crate) struct EndedRun {
    pub(crate) by: String,
    pub(crate) began: Monotonic,
    pub(crate) report: RunReport,
    pub(crate) in_sync: InSync,
    /// Whether it was told to stop before its work was over.
    pub(crate) stopped: bool,
    pub(crate) refusals: Arc<Refusals>,
}

/// A run that goes on.
pub(crate) struct SimRun {
    pub(crate) producer: Arc<SimProcess>,
    workman: Arc<SimProcess>,
    pub(crate) stop: StopSignal,
    running: JoinSet<RunEnd>,
}

impl SimRun {
    /// Starts the process. Without `exact` it counts as one whose workmen are processes of their own.
    pub(crate) fn begin(world: &Arc<World>, give_up_after: Duration, exact: bool) -> Self {
        let (producer, workman) = (SimProcess::new(world, "producer"), SimProcess::new(world, "workman"));
        let stop = StopSignal::default();
        let _ = producer.stop.set(stop.clone());
        world.begins(&workman);
        let halves = RunHalves {
            producer: producer.clone(),
            workman: workman.clone(),
            stop: stop.clone(),
            give_up_after,
            exact,
        };
        let mut running = JoinSet::new();
        running.spawn_local(halves.supervise());
        Self { producer, workman, stop, running }
    }

    /// Lets its writes to tables fail until then.
    pub(crate) fn fill_state_until(&self, until: Monotonic) {
        self.producer.fill_state_until(until);
        self.workman.fill_state_until(until);
    }

    /// How it ended, if it does before `long` has passed.
    pub(crate) async fn ended_within(&mut self, long: Duration) -> Option<RunEnd> {
        match select(pin!(self.running.join_next()), pin!(tokio::time::sleep(long))).await {
            Either::Left((ended, _)) => ended.and_then(Result::ok),
            Either::Right(_) => None,
        }
    }
}

/// The two names of the process, and how it is run.
struct RunHalves {
    producer: Arc<SimProcess>,
    workman: Arc<SimProcess>,
    stop: StopSignal,
    give_up_after: Duration,
    exact: bool,
}

impl RunHalves {
    /// Runs until it ends or dies.
    async fn supervise(self) -> RunEnd {
        let world = self.producer.world.clone();
        let (producer_dies, workman_dies) = (self.producer.death.cancelled(), self.workman.death.cancelled());
        let ended = match select(select(pin!(producer_dies), pin!(workman_dies)), pin!(self.run())).await {
            Either::Left(_) => RunEnd::Died,
            Either::Right((Ok(ended), _)) => RunEnd::Ended(Box::new(ended)),
            Either::Right((Err(error), _)) => {
                world.note(&self.producer.name, format_args!("the run failed: {error:#}"));
                RunEnd::Failed
            }
        };
        for process in [&self.producer, &self.workman] {
            // Calls of it that are not dropped yet go no further.
            process.die();
            world.dead.lock().insert(process.name.clone());
            world.see(&Event::Ended { by: &process.name, killed: matches!(ended, RunEnd::Died) });
        }
        ended
    }

    async fn run(&self) -> Result<EndedRun> {
        let world = &self.producer.world;
        let (statistics, refusals) = (Arc::<Statistics>::default(), Arc::<Refusals>::default());
        let deps = |process: &Arc<SimProcess>| {
            let mut deps = ProcessDeps::new(process);
            let (stores, clock) = (deps.stores, process.clock.clone());
            deps.stores = Arc::new(TrackedStores { stores, statistics: statistics.clone(), clock });
            (deps.statistics, deps.refusals) = (statistics.clone(), refusals.clone());
            deps.give_up_after = self.give_up_after;
            deps
        };
        let (producer_deps, workman_deps) = (deps(&self.producer), deps(&self.workman));
        let polling = polling(world);
        let producer = producer_deps.producer_with(self.looping_settings(&producer_deps, polling));
        let idle_backoff = [100, 200, 500, 1_000].map(Duration::from_millis).to_vec();
        let polls = Polls { idle_backoff, poll_wait: polling.poll_wait };
        let run = RunUntilDone {
            deps: RunDeps {
                clock: self.producer.clock.clone(),
                statistics: statistics.clone(),
                queues: [QueueName::DuplicationHigh, QueueName::DuplicationLow]
                    .map(|name| producer_deps.queues()[&name].clone())
                    .to_vec(),
                polling,
                state: Arc::new(WatchedState([self.producer.clone(), self.workman.clone()])),
            },
            producer: &producer,
            workers: SimWorkers {
                exact: self.exact,
                process: self.workman.clone(),
                idle: Some(Box::new(workman(&workman_deps, polls))),
                running: JoinSet::new(),
            },
            stopping: self.stop.clone(),
            progress: mpsc::channel(1).0,
            give_up_after: self.give_up_after,
        };
        let began = world.now();
        let report = run.until_in_sync().await?;
        let stopped = self.stop.gentle.is_cancelled();
        world.see(&Event::Session { by: &self.producer.name, report: &report.produced });
        let conclusion = Conclusion { halves: self, producer: &producer, statistics: &statistics, refusals: &refusals };
        let in_sync = conclusion.in_sync(&report).await;
        let ended = EndedRun { by: self.producer.name.clone(), began, report, in_sync, stopped, refusals };
        world.see(&Event::RunEnded { run: &ended });
        Ok(ended)
    }

    fn looping_settings(&self, deps: &ProcessDeps, polling: PollingProfile) -> LoopingSettings {
        LoopingSettings {
            when_full: WhenFull::Wait { poll: polling.full_poll, poll_most: polling.full_poll },
            run_start: RunStart::Together,
            give_up_after: self.give_up_after,
            silence_max: one_answer_max(self.give_up_after),
            ..deps.looping_settings(false)
        }
    }
}

/// As the engine of one host has it, or as a fleet has it; but an end is looked for so seldom that worlds stay fast.
fn polling(world: &World) -> PollingProfile {
    let one_host = world.swarm.recheck.is_zero();
    let seconds = Duration::from_secs;
    PollingProfile {
        linger: world.swarm.linger,
        recheck: world.swarm.recheck,
        look_every: if one_host { Duration::from_millis(200) } else { seconds(1) },
        looks_to_be_sure: if one_host { 1 } else { 3 },
        looks_where_counts_differ: if one_host { 1 } else { 70 },
        poll_wait: if one_host { Duration::from_millis(500) } else { seconds(2) },
        full_poll: seconds(if one_host { 1 } else { 5 }),
        full_poll_most: seconds(30),
        session_pause_least: seconds(2),
        session_pause_most: seconds(10),
    }
}

/// Finds out whether all is in sync after a run, as `mill run` does.
struct Conclusion<'a> {
    halves: &'a RunHalves,
    producer: &'a DuplicationProducer,
    statistics: &'a Statistics,
    refusals: &'a Refusals,
}

impl Conclusion<'_> {
    async fn in_sync(&self, report: &RunReport) -> InSync {
        let by = &*self.halves.producer;
        match report.proof_needed() {
            ProofNeeded::Nothing => {
                let refused = self.refused_by_space();
                let of_pair = |pair: &SpacePair| {
                    refused.get(&format!("{}/{}", pair.account, pair.space)).copied().unwrap_or_default()
                };
                if let Err(error) = self.producer.note_in_sync(&of_pair).await {
                    by.world.note(&by.name, format_args!("that all is in sync is not noted: {}", error_chain(&error)));
                }
                InSync::Sum
            }
            ProofNeeded::ClosingSurvey => self.closing_survey(report).await,
            ProofNeeded::AnotherRun => InSync::No,
        }
    }

    async fn closing_survey(&self, report: &RunReport) -> InSync {
        let by = &*self.halves.producer;
        let check = ClosingCheck {
            producer: self.producer,
            statistics: self.statistics,
            clock: &*by.clock,
            stop: &self.halves.stop.gentle,
            give_up_after: self.halves.give_up_after,
        };
        let is_refused = |pair: &SpacePair, id: &mill_model::ContentId| {
            self.refusals.contains(&format!("{}/{}/{id}", pair.account, pair.space))
        };
        match check.survey(&is_refused).await {
            Ok(Ok(closing)) => {
                let is_new = |failed: &mill_producer::SpaceFailure| !report.produced.spaces_failed.contains(failed);
                by_closing_survey(&closing, is_new)
            }
            Ok(Err(error)) => {
                by.world.note(&by.name, format_args!("the closing survey failed: {}", error_chain(&error)));
                InSync::No
            }
            Err(silent) => {
                by.world.note(&by.name, format_args!("the closing survey: {silent}"));
                InSync::No
            }
        }
    }

    /// How many items were refused by name, by account and space.
    fn refused_by_space(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for refused in self.refusals.named() {
            if let Some((end, _)) = refused.subject.match_indices('/').nth(1) {
                *counts.entry(refused.subject[..end].to_owned()).or_default() += 1;
            }
        }
        counts
    }
}

/// Whether both names of the process can write to their tables. No write waits in this world, so none is to fail sooner.
#[derive(Debug)]
struct WatchedState([Arc<SimProcess>; 2]);

impl StateWatch for WatchedState {
    fn standstill(&self) -> Option<StateStandstill> {
        let failed = self.0.iter().filter_map(|process| process.failed_writes());
        let (first, last) = (failed.clone().map(|(first, _)| first).max()?, failed.map(|(_, last)| last).min()?);
        Some(StateStandstill { why: "the disk is full".into(), first_failed: first, last_failed: last })
    }

    fn abandon(&self) {}
}

/// The workman of a run.
#[derive(Debug)]
struct SimWorkers {
    exact: bool,
    process: Arc<SimProcess>,
    idle: Option<Box<(Workman, Heartbeat)>>,
    running: JoinSet<Result<Option<String>>>,
}

#[async_trait]
impl RunWorkers for SimWorkers {
    fn is_exact(&self) -> bool {
        self.exact
    }

    fn begin(&mut self, stop: StopSignal) {
        let Some(idle) = self.idle.take() else { return };
        let _ = self.process.stop.set(stop.clone());
        self.running.spawn_local(async move {
            let ((workman, heartbeat), ended) = (*idle, stop.gentle.clone());
            let end = match select(pin!(workman.run(stop)), pin!(heartbeat.run())).await {
                Either::Left((end, _)) => end,
                Either::Right(((), work)) => work.await,
            };
            ended.cancel();
            Ok(ended_early(end?))
        });
    }

    fn add_to(&self, _: &mut RunProgress) {}

    async fn join(&mut self) -> Result<Option<String>> {
        match self.running.join_next().await {
            Some(ended) => ended.context("the workman's task failed")?,
            None => Ok(None),
        }
    }
}
