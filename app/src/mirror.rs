//! A mirror: makes one folder or bucket a faithful copy of another, without a configuration.

mod dry_run;
mod endpoint;
mod known_pair;
mod opening;
mod pair;
mod pair_state;
mod source;
mod swapped_ends;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use mill_local::{Identity, RememberedDatabase};
use mill_ports::{Engine, Statistics};
use mill_producer::{AbsentSource, QueueSizing, WhenFull};
use mill_run::silence::{one_answer_max, unless_silent};
use mill_workman::{OnFinalFailure, OnUnavailable, WorkmanSettings};

pub use self::endpoint::EndpointOptions;
pub(crate) use self::endpoint::{Endpoint, FolderPath};
pub(crate) use self::known_pair::{OpenedEnds, RememberedMirror};
pub use self::known_pair::{engine_of, queues_of};
use self::opening::MirrorOpener;
use self::pair::MirrorPair;
use self::pair_state::PairState;
use crate::installation::{Installation, producer_defaults, workman_defaults};
use crate::result_code::ResultCode;
use crate::run_record::RunRecord;
use crate::run_summary::RunSummary;
use crate::stop_tokens::{StopTokens, StoppedError};
use crate::store_registry::DestinationAccess;
use crate::subject_names::SubjectNames;
use crate::wait_limit::WaitLimit;

/// A person's request for a mirror.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools)] // each is a flag of the command line
pub struct MirrorRequest {
    /// The folder to copy, or `s3://BUCKET/PREFIX`, as it was typed.
    pub source: PathBuf,
    /// The folder to bring in sync, or `s3://BUCKET/PREFIX`, as it was typed.
    pub destination: PathBuf,
    /// How to reach the source in S3.
    pub source_options: EndpointOptions,
    /// How to reach the destination in S3.
    pub destination_options: EndpointOptions,
    /// Whether items that are certainly gone from the source are deleted at the destination.
    pub remove_vanished: bool,
    /// Whether to start again with a destination that is missing or has changed.
    pub create: bool,
    /// Whether to take over a destination that was kept in sync with another source, or of which the source was the copy.
    pub take_over: bool,
    /// Whether another disk at the source than at the last run is the source from now on.
    pub accept_source: bool,
    /// Whether nothing is to be changed.
    pub dry_run: bool,
}

/// A pair that only this process mirrors while this value exists. A dry run keeps no other away.
#[derive(Debug)]
pub struct LockedMirror {
    request: MirrorRequest,
    pair: MirrorPair,
    remembered: RememberedDatabase,
    /// Whether the pair was mirrored before in this direction.
    goes_on: bool,
    _lock: Option<File>,
}

impl LockedMirror {
    /// Locks the pair.
    ///
    /// # Errors
    /// Another process mirrors it, an end cannot be used, the ends overlap or are those of a known mirror swapped, or an end
    /// contains Mill's own state.
    pub async fn lock(request: MirrorRequest, wait_limit: &WaitLimit) -> Result<Self> {
        let pair = match MirrorPair::of(&request, wait_limit).await {
            Ok(pair) => pair,
            Err(error) => {
                if !request.dry_run {
                    note_failed_start(&request, wait_limit, &error).await;
                }
                return Err(error);
            }
        };
        let goes_on = pair.goes_on(wait_limit).await?;
        if !request.take_over
            && !goes_on
            && let Err(swapped) = pair.ensure_not_swapped(wait_limit).await
        {
            // `--take-over`, which that error offers, would not help against this one.
            pair.ensure_state_is_outside(wait_limit).await?;
            return Err(swapped);
        }
        let dry_run = request.dry_run;
        let begin = move |state: &PairState| {
            let lock = if dry_run { state.ensure_idle().map(|()| None)? } else { Some(state.lock()?) };
            Ok((lock, state.remembered()?))
        };
        let (lock, remembered) = pair.look_at_state(wait_limit, begin).await?;
        pair.ensure_state_is_outside(wait_limit).await?;
        if request.take_over && !dry_run {
            pair.supersede_swapped(wait_limit).await?;
        } else if !goes_on && !dry_run {
            pair.note_empty_destination(wait_limit).await?;
        }
        Ok(Self { request, pair, remembered, goes_on, _lock: lock })
    }

    /// Whether this pair was never mirrored before, as far as is known.
    pub fn is_first_run(&self) -> bool {
        self.remembered == RememberedDatabase::Nothing
    }

    /// The folder of the pair's state.
    pub fn state_folder(&self) -> &Path {
        self.pair.state.folder()
    }

    /// Checks that a report of the run lies in neither end.
    ///
    /// # Errors
    /// It does.
    pub async fn ensure_outside(&self, report: &Path, wait_limit: &WaitLimit) -> Result<()> {
        self.pair.ensure_report_is_outside(report, wait_limit).await
    }

    /// Opens the state and both ends. `wait_limit` is also the time that an item waits for its store.
    ///
    /// # Errors
    /// When one of them cannot be used, does not answer in time, or this is stopped.
    pub async fn open(&self, stopping: &StopTokens, wait_limit: &WaitLimit) -> Result<Installation> {
        let Self { request, pair, .. } = self;
        if request.dry_run {
            let engine = pair.open_scratch(wait_limit).await?;
            stopping.when_damaged();
            let access = pair.look_at_destination((request, self.may_create()), wait_limit).await?;
            return self.open_ends((engine, access), wait_limit).await;
        }
        let (engine, identity, remembered) = pair.open_state(wait_limit, self.remembered.clone()).await?;
        stopping.when_damaged();
        self.open_to_write(engine, (remembered, identity), wait_limit).await
    }

    fn may_create(&self) -> bool {
        self.is_first_run() || self.request.create
    }

    /// Makes the destination, if it may, and opens both ends. A first run that may not use them leaves no trace of the pair.
    async fn open_to_write(
        &self,
        engine: Arc<dyn Engine>,
        state: (RememberedDatabase, Identity),
        wait_limit: &WaitLimit,
    ) -> Result<Installation> {
        let Self { request, pair, .. } = self;
        let is_first = self.is_first_run();
        let made = pair.make_destination(self.may_create(), wait_limit).await;
        let is_new = recorded(made, (&engine, request)).await?;
        if !is_first {
            pair.remember_state(wait_limit, state.clone()).await?;
        }
        let opened = self.open_ends((engine.clone(), DestinationAccess::Write), wait_limit).await;
        if opened.is_err() && is_new {
            pair.unmake_destination(wait_limit).await;
        }
        let opened = recorded(opened, (&engine, request)).await?;
        if is_first {
            pair.remember_state(wait_limit, state).await?;
        }
        Ok(opened)
    }

    /// Opens both ends with the engine that has the state.
    async fn open_ends(
        &self,
        (engine, access): (Arc<dyn Engine>, DestinationAccess),
        wait_limit: &WaitLimit,
    ) -> Result<Installation> {
        let Self { request, pair, goes_on, .. } = self;
        // A stop also works while a server accepts a call and never answers.
        let statistics = Arc::<Statistics>::default();
        let clock = engine.clock();
        let opener = MirrorOpener {
            pair,
            request,
            goes_on: *goes_on,
            engine,
            statistics: statistics.clone(),
            access,
            wait_limit,
        };
        let installation = unless_silent(opener.open(), (&*statistics, &*clock), wait_limit.give_up_after);
        let Some(installation) = wait_limit.stop.run_until_cancelled(installation).await else {
            return Err(StoppedError(String::new()).into());
        };
        Ok(Installation { item_patience: wait_limit.give_up_after, ..installation?? })
    }

    /// The result of a run that found nothing at the source.
    pub fn judge_nothing(&self, names: &SubjectNames, exit: ResultCode, summary: &mut RunSummary) -> ResultCode {
        self.pair.source.judge_nothing(names, exit, summary)
    }
}

/// Writes down why a run could not begin, if it could not.
async fn recorded<T>(begun: Result<T>, (engine, request): (&Arc<dyn Engine>, &MirrorRequest)) -> Result<T> {
    if let Err(error) = &begun {
        RunRecord::failed_at_start(engine, error, &SubjectNames::of_mirror(request)).await;
    }
    begun
}

/// Writes down that an end of a known pair could not be used at all. What was never mirrored has no state to write to.
async fn note_failed_start(request: &MirrorRequest, wait_limit: &WaitLimit, error: &anyhow::Error) {
    let known = async { MirrorPair::remembered(request, wait_limit).await?.known_state(wait_limit).await };
    match known.await {
        Ok(Some(engine)) => RunRecord::failed_at_start(&engine, error, &SubjectNames::of_mirror(request)).await,
        Ok(None) => {}
        Err(why) => tracing::debug!("the failure could not be written down: {why:#}"),
    }
}

/// The settings of a mirror's workman.
pub fn workman_settings(
    installation: &Installation,
    workers: u32,
    on_final_failure: OnFinalFailure,
) -> Result<WorkmanSettings> {
    Ok(WorkmanSettings {
        workers,
        on_final_failure,
        on_unavailable: OnUnavailable::Stop,
        poll_wait: installation.engine.polling().poll_wait,
        ..workman_defaults()?
    })
}

/// The settings of a mirror's producer.
pub fn producer_settings(give_up_after: Duration) -> Result<mill_producer::ProducerSettings> {
    let defaults = producer_defaults()?;
    let looping = mill_producer::LoopingSettings {
        when_full: WhenFull::Wait { poll: Duration::from_millis(20), poll_most: Duration::from_millis(20) },
        run_start: mill_producer::RunStart::Together,
        queue_sizing: QueueSizing::Fixed,
        frequency: Duration::ZERO,
        give_up_after,
        silence_max: one_answer_max(give_up_after),
        ..defaults.looping
    };
    Ok(mill_producer::ProducerSettings { looping, absent_source: AbsentSource::Unknown, ..defaults })
}
