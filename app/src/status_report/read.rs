//! Reads a status report.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use mill_model::{AccountId, QueueName, SpaceId, SpacePair, StoreId};
use mill_policy::{AccountPolicy, StorePolicy};
use mill_ports::{SourceStore, error_chain};
use mill_producer::DuplicationProducer;
use mill_records::policies::PolicyFreshness;
use mill_records::producer_state::{
    AccountRun, DuplicationRows, PairSurvey, ProducerState, SurveyFailure, SurveySubject,
};
use mill_records::tables;

use super::{
    AccountRunStatus, AccountStatus, FailureStatus, PairStatus, PolicyInUse, ProducerStatus, QueueStatus, RunStatus,
    StatusReport, StoreStatus, SurveyStatus,
};
use crate::config::Config;
use crate::dead_letters::DeadLetterReview;
use crate::installation::Installation;
use crate::open_faults::Verifications;
use crate::subject_names::SubjectNames;
use crate::verify::copy_name;

/// Loops that began within this time count as begun together.
const BEGAN_TOGETHER: Duration = Duration::from_mins(1);

/// A store that takes longer to answer is reported as failing, so that the status appears soon.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

impl StatusReport {
    /// Reads the status. Waits for stores and policies no longer than ten seconds each.
    ///
    /// # Errors
    /// When the queues or the tables do not answer.
    pub async fn read(installation: &Installation, config: &Config) -> Result<Self> {
        let letters = DeadLetterReview::begin(installation, SubjectNames::Policies).await?;
        let (accounts, covered) = accounts(installation).await;
        Ok(Self {
            queues: queues(installation).await?,
            duplication_producer: producer(installation, config).await?,
            accounts,
            pairs: pairs(installation, covered).await?,
            dead_letters_open: letters.count_open().await?,
        })
    }

    /// The number of tasks in all queues except the dead-letter queue.
    pub fn tasks_waiting(&self) -> u64 {
        let waiting = self.queues.iter().filter(|queue| queue.name != QueueName::DeadLetter.as_str());
        waiting.map(|queue| queue.visible + queue.in_flight + queue.delayed).sum()
    }
}

async fn queues(installation: &Installation) -> Result<Vec<QueueStatus>> {
    let mut rows = Vec::new();
    for name in QueueName::ALL {
        let depth = installation.engine.queue(name).depth().await?;
        rows.push(QueueStatus {
            name: name.as_str().to_owned(),
            visible: depth.visible,
            in_flight: depth.in_flight,
            delayed: depth.delayed,
            oldest_seconds: depth.oldest_age.map(|age| age.as_secs()),
        });
    }
    Ok(rows)
}

/// The status of the loops of all accounts: of each, and of the one that is furthest behind.
async fn producer(installation: &Installation, config: &Config) -> Result<ProducerStatus> {
    let table = installation.engine.table(tables::PRODUCER_STATE);
    let state =
        ProducerState::<DuplicationRows>::to_read(table, installation.engine.clock(), DuplicationProducer::NAME);
    let loaded = state.load(false).await?;
    let frequency = config.producer.frequency;
    let mut runs: BTreeMap<AccountId, AccountRun> =
        loaded.runs.into_iter().map(|kept| (kept.record.account.clone(), kept.record)).collect();
    let listed = within(installation.policies.account_ids()).await.and_then(Result::ok);
    let listed = listed.unwrap_or_else(|| runs.keys().cloned().collect());
    if let Some(of_all) = loaded.run_of_all {
        for account in &listed {
            runs.entry(account.clone()).or_insert_with(|| of_all.record.of(account.clone()));
        }
    }
    runs.retain(|account, _| listed.contains(account));
    let all_began = listed.iter().all(|account| runs.contains_key(account));
    let finished: Option<Vec<_>> = runs.values().map(|run| run.finished).collect();
    let first = runs.values().map(|run| run.started).min();
    let rows = listed.iter().map(|account| {
        let run = runs.get(account);
        let left = loaded.morsels.iter().filter(|morsel| morsel.record.pair.account == *account).count();
        AccountRunStatus {
            account: account.as_str().to_owned(),
            run: RunStatus {
                run_started: run.map(|run| run.started.to_string()),
                run_finished: run.and_then(|run| run.finished).map(|at| at.to_string()),
                next_run: run.map(|run| run.started.plus(frequency).to_string()),
                morsels_left: left,
            },
        }
    });
    let same = all_began && agree(&runs);
    Ok(ProducerStatus {
        run: RunStatus {
            run_started: first.map(|at| at.to_string()),
            run_finished: finished.filter(|_| all_began).and_then(|all| all.into_iter().max()).map(|at| at.to_string()),
            next_run: first.map(|at| at.plus(frequency).to_string()),
            morsels_left: loaded.morsels.len(),
        },
        one_loop: same,
        runs: rows.collect(),
    })
}

/// Whether the loops of all accounts began together, and all or none have ended.
fn agree(runs: &BTreeMap<AccountId, AccountRun>) -> bool {
    let began = || runs.values().map(|run| run.started);
    let apart = began().max().zip(began().min()).map_or(Duration::ZERO, |(last, first)| last.since(first));
    let going_on = runs.values().filter(|run| run.finished.is_none()).count();
    apart < BEGAN_TOGETHER && (going_on == 0 || going_on == runs.len())
}

/// The status of each pair that a policy covers today: as of when it is in sync, or how much differed then; and failed
/// surveys since.
async fn pairs(installation: &Installation, covered: BTreeSet<SpacePair>) -> Result<Vec<PairStatus>> {
    let table = installation.engine.table(tables::PRODUCER_STATE);
    let state =
        ProducerState::<DuplicationRows>::to_read(table, installation.engine.clock(), DuplicationProducer::NAME);
    let mut known: BTreeMap<SpacePair, PairSurvey> =
        state.surveys().await?.into_iter().map(|kept| (kept.record.pair.clone(), kept.record)).collect();
    let failures: Vec<SurveyFailure<SpacePair>> = state.failures().await?.into_iter().map(|kept| kept.record).collect();
    let verifications = Verifications::read(&installation.engine).await?;
    let mut rows: Vec<PairStatus> =
        covered.iter().map(|pair| of_pair(pair, known.remove(pair).as_ref(), &failures)).collect();
    // The pairs of stores that do not answer now.
    let mut others: BTreeMap<SpacePair, Option<PairSurvey>> =
        known.into_iter().map(|(pair, survey)| (pair, Some(survey))).collect();
    for failure in &failures {
        if let SurveySubject::Morsel(pair) = &failure.subject
            && !covered.contains(pair)
        {
            others.entry(pair.clone()).or_insert(None);
        }
    }
    for (pair, survey) in others {
        let Some(policy) = within(installation.policies.account(&pair.account)).await else { break };
        if policy.is_ok_and(|policy| policy.covering(&pair).is_some()) {
            rows.push(of_pair(&pair, survey.as_ref(), &failures));
        }
    }
    for row in &mut rows {
        row.note_verification(&verifications);
    }
    Ok(rows)
}

impl PairStatus {
    /// Notes the verification that counts. A copy with faults is not called in sync, whatever its listing shows.
    fn note_verification(&mut self, verifications: &Verifications) {
        let name = copy_name((&self.account, &self.space), (&self.source, &self.destination));
        self.verification = verifications.of_copy(&name);
        let faults = self.verification.as_ref().map_or(0, |verified| verified.faults);
        if faults > 0
            && let Some(survey) = &mut self.survey
        {
            survey.in_sync_as_of = None;
        }
    }
}

fn of_pair(pair: &SpacePair, survey: Option<&PairSurvey>, failures: &[SurveyFailure<SpacePair>]) -> PairStatus {
    let SpacePair { account, source, destination, space } = pair;
    // A failure older than the survey is obsolete: a version of Mill that does not record failures has surveyed since.
    let is_later = |failure: &&SurveyFailure<SpacePair>| survey.is_none_or(|survey| failure.last >= survey.began);
    let failed = || failures.iter().filter(|failure| failure.subject.concerns(pair)).filter(is_later);
    let failure = failed().max_by_key(|failure| failure.last).map(|last| FailureStatus {
        failed_since: failed().map(|failure| failure.first).min().map(|at| at.to_string()),
        failed_last: last.last.to_string(),
        failed_reason: last.reason.clone(),
    });
    PairStatus {
        account: account.as_str().to_owned(),
        space: space.as_str().to_owned(),
        source: source.as_str().to_owned(),
        destination: destination.as_str().to_owned(),
        survey: survey.map(SurveyStatus::of),
        failure,
        verification: None,
    }
}

impl SurveyStatus {
    fn of(PairSurvey { began, sum, unproven, held, in_sync, .. }: &PairSurvey) -> Self {
        Self {
            surveyed: began.to_string(),
            in_sync_as_of: in_sync.map(|at| at.to_string()),
            unproven: *unproven,
            held: *held,
            counts: sum.each().map(|(counter, count)| (counter.name, count)).collect(),
        }
    }

    /// What the survey counted by this name.
    pub fn count(&self, counter: &str) -> u64 {
        self.counts.get(counter).copied().unwrap_or(0)
    }
}

/// Each account with its policy and stores, and the covered pairs, as far as the stores answer.
async fn accounts(installation: &Installation) -> (Vec<AccountStatus>, BTreeSet<SpacePair>) {
    let mut covered = BTreeSet::new();
    let accounts = match within(installation.policies.accounts()).await {
        Some(Ok(accounts)) => accounts,
        Some(Err(error)) => return (vec![AccountStatus::unknown(error_chain(&error))], covered),
        None => {
            let seconds = ANSWERS_WITHIN.as_secs();
            let trouble = format!("the policy files cannot be read within {seconds} seconds");
            return (vec![AccountStatus::unknown(trouble)], covered);
        }
    };
    let mut rows = Vec::new();
    for (account, policy) in accounts {
        let state = installation.policies.states().into_iter().find(|state| state.account.as_ref() == Some(&account));
        let in_use = match state.as_ref().map(|state| state.in_use) {
            Some(PolicyFreshness::Current) => PolicyInUse::Current,
            Some(PolicyFreshness::LastGood) => PolicyInUse::LastGood,
            Some(PolicyFreshness::Nothing) | None => PolicyInUse::Nothing,
        };
        let trouble = state.and_then(|state| state.trouble).map(|error| error_chain(&error));
        let mut stores = Vec::new();
        if let Ok(policy) = &policy {
            for spec in policy.stores() {
                let asking = async {
                    let store =
                        installation.stores.source(&account, &spec.id).await.map_err(|error| error_chain(&error))?;
                    SourceStore::spaces(&*store).await.map_err(|error| error_chain(&error))
                };
                let silent = || Err(format!("it does not tell its spaces within {} seconds", ANSWERS_WITHIN.as_secs()));
                let answers = within(asking).await.unwrap_or_else(silent);
                let named = policy.named_spaces().into_iter();
                covered.extend(
                    named.chain(answers.iter().flatten()).flat_map(|space| pairs_from(policy, space, &spec.id)),
                );
                let (spaces, trouble) = match answers {
                    Ok(spaces) => (Some(spaces.len()), None),
                    Err(trouble) => (None, Some(trouble)),
                };
                stores.push(StoreStatus { store: spec.id.as_str().to_owned(), spaces, trouble });
            }
        }
        let (account, policy, stores) = (Some(account.as_str().to_owned()), Some(in_use), Some(stores));
        rows.push(AccountStatus { account, policy, trouble, stores });
    }
    (rows, covered)
}

/// The result, if it arrives soon.
async fn within<T>(asked: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(ANSWERS_WITHIN, asked).await.ok()
}

/// The pairs by which a space is copied from a store.
fn pairs_from(policy: &AccountPolicy, space: &SpaceId, source: &StoreId) -> Vec<SpacePair> {
    let policies = policy.for_space(space).policies.into_iter().filter(|policy| policy.source == *source);
    let pair = |StorePolicy { source, destination, .. }| {
        let (account, space) = (policy.account().clone(), space.clone());
        SpacePair { account, source, destination, space }
    };
    policies.map(pair).collect()
}
