//! `mill status`: queues, producers, policies, stores, copies and dead letters at a glance.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use mill_app::config::Config;
use mill_app::exit::Exit;
use mill_app::installation::Works;
use mill_model::{AccountId, QueueName, SpaceId, StoreId};
use mill_policy::{AccountPolicy, StorePolicy};
use mill_ports::{SourceStore, error_chain};
use mill_producer::DuplicationProducer;
use mill_records::dead_letters::DeadLetterState;
use mill_records::policies::InUse;
use mill_records::producer_state::{AccountRun, PairSurvey, ProducerState, SurveyFailure, SurveySubject};
use mill_records::sync_proofs::SpacePair;
use serde_json::{Value, json};

use crate::output::{line, table};

/// Loops that began so close to each other began together.
const BEGAN_TOGETHER: Duration = Duration::from_mins(1);

/// A store that takes longer to answer is said to be in trouble: who asks for the status wants to know that soon.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Runs it.
pub(super) async fn run(as_json: bool, config: &Config) -> Result<Exit> {
    let works = Works::configured(config).await?;
    works.drain_dead_letters().await?;
    let (accounts, covered) = accounts(&works).await;
    let status = json!({
        "queues": queues(&works).await?,
        "duplication_producer": producer(&works, config).await?,
        "accounts": accounts,
        "pairs": pairs(&works, covered).await?,
        "dead_letters_open": mill_app::dead_letters::open(&works).await?,
    });
    if as_json {
        line(status.to_string());
    } else {
        print(&status);
    }
    Ok(Exit::Done)
}

async fn queues(works: &Works) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    for name in QueueName::ALL {
        let depth = works.engine.queue(name).depth().await?;
        rows.push(json!({ "name": name.as_str(), "visible": depth.visible, "in_flight": depth.in_flight,
            "delayed": depth.delayed, "oldest_seconds": depth.oldest_age.map(|age| age.as_secs()) }));
    }
    Ok(rows)
}

/// How it stands with the loops of all accounts: of each, and of the one that lags behind most.
async fn producer(works: &Works, config: &Config) -> Result<Value> {
    let table = works.engine.table("producer-state");
    let state = ProducerState::to_read(table, works.engine.clock.clone(), DuplicationProducer::BOOK);
    let loaded = state.load(false).await?;
    let frequency = config.duration("producer.frequency")?;
    let mut runs: BTreeMap<AccountId, AccountRun> =
        loaded.runs.into_iter().map(|kept| (kept.row.account.clone(), kept.row)).collect();
    let listed = within(works.policies.account_ids()).await.and_then(Result::ok);
    let listed = listed.unwrap_or_else(|| runs.keys().cloned().collect());
    if let Some(of_all) = loaded.run_of_all {
        for account in &listed {
            runs.entry(account.clone()).or_insert_with(|| of_all.row.of(account.clone()));
        }
    }
    runs.retain(|account, _| listed.contains(account));
    let all_began = listed.iter().all(|account| runs.contains_key(account));
    let finished: Option<Vec<_>> = runs.values().map(|run| run.finished).collect();
    let first = runs.values().map(|run| run.started).min();
    let rows = listed.iter().map(|account| {
        let run = runs.get(account);
        let left = loaded.morsels.iter().filter(|morsel| morsel.row.pair.account == *account).count();
        json!({
            "account": account.as_str(),
            "run_started": run.map(|run| run.started.to_string()),
            "run_finished": run.and_then(|run| run.finished).map(|at| at.to_string()),
            "next_run": run.map(|run| run.started.plus(frequency).to_string()),
            "morsels_left": left,
        })
    });
    let same = all_began && agree(&runs);
    Ok(json!({
        "run_started": first.map(|at| at.to_string()),
        "run_finished": finished.filter(|_| all_began).and_then(|all| all.into_iter().max()).map(|at| at.to_string()),
        "next_run": first.map(|at| at.plus(frequency).to_string()),
        "morsels_left": loaded.morsels.len(),
        "one_loop": same,
        "runs": rows.collect::<Vec<_>>(),
    }))
}

/// Whether the loops of all accounts began together, and all or none have ended.
fn agree(runs: &BTreeMap<AccountId, AccountRun>) -> bool {
    let began = || runs.values().map(|run| run.started);
    let apart = began().max().zip(began().min()).map_or(Duration::ZERO, |(last, first)| last.since(first));
    let going_on = runs.values().filter(|run| run.finished.is_none()).count();
    apart < BEGAN_TOGETHER && (going_on == 0 || going_on == runs.len())
}

/// What is known of each pair that a policy covers today: as of when it is in sync, or how much differed then; and whether it
/// could not be looked at since.
async fn pairs(works: &Works, covered: BTreeSet<SpacePair>) -> Result<Vec<Value>> {
    let table = works.engine.table("producer-state");
    let state = ProducerState::to_read(table, works.engine.clock.clone(), DuplicationProducer::BOOK);
    let mut known: BTreeMap<SpacePair, PairSurvey> =
        state.surveys().await?.into_iter().map(|kept| (kept.row.pair.clone(), kept.row)).collect();
    let failures: Vec<SurveyFailure> = state.failures().await?.into_iter().map(|kept| kept.row).collect();
    let mut rows: Vec<Value> =
        covered.iter().map(|pair| of_pair(pair, known.remove(pair).as_ref(), &failures)).collect();
    // Those of stores that do not answer now.
    let mut others: BTreeMap<SpacePair, Option<PairSurvey>> =
        known.into_iter().map(|(pair, survey)| (pair, Some(survey))).collect();
    for failure in &failures {
        if let SurveySubject::SpacePair(pair) = &failure.subject
            && !covered.contains(pair)
        {
            others.entry(pair.clone()).or_insert(None);
        }
    }
    for (pair, survey) in others {
        let Some(policy) = within(works.policies.account(&pair.account)).await else { break };
        if policy.is_ok_and(|policy| policy.covering(&pair.space, &pair.source, &pair.destination).is_some()) {
            rows.push(of_pair(&pair, survey.as_ref(), &failures));
        }
    }
    Ok(rows)
}

fn of_pair(pair: &SpacePair, survey: Option<&PairSurvey>, failures: &[SurveyFailure]) -> Value {
    let SpacePair { account, source, destination, space } = pair;
    let mut row = json!({ "account": account.as_str(), "space": space.as_str(), "source": source.as_str(),
        "destination": destination.as_str() });
    if let Some(PairSurvey { began, sum, unproven, held, in_sync, .. }) = survey {
        row["surveyed"] = began.to_string().into();
        row["in_sync_as_of"] = in_sync.map(|at| at.to_string()).into();
        row["unproven"] = (*unproven).into();
        row["held"] = (*held).into();
        for (counter, count) in sum.each() {
            row[counter.name] = count.into();
        }
    }
    // One that is older than the survey is over: a version of Mill that does not know of failures has surveyed since.
    let is_later = |failure: &&SurveyFailure| survey.is_none_or(|survey| failure.last >= survey.began);
    let failed = || failures.iter().filter(|failure| failure.subject.concerns(pair)).filter(is_later);
    if let Some(last) = failed().max_by_key(|failure| failure.last) {
        row["failed_since"] = failed().map(|failure| failure.first).min().map(|at| at.to_string()).into();
        row["failed_last"] = last.last.to_string().into();
        row["failed_reason"] = last.reason.clone().into();
    }
    row
}

/// Each account, its policy and its stores; and the pairs that are covered, as far as the stores answer.
async fn accounts(works: &Works) -> (Vec<Value>, BTreeSet<SpacePair>) {
    let mut covered = BTreeSet::new();
    let accounts = match within(works.policies.accounts()).await {
        Some(Ok(accounts)) => accounts,
        Some(Err(error)) => return (vec![json!({ "account": null, "trouble": error_chain(&error) })], covered),
        None => {
            let seconds = ANSWERS_WITHIN.as_secs();
            let trouble = format!("the policy files cannot be read within {seconds} seconds");
            return (vec![json!({ "account": null, "trouble": trouble })], covered);
        }
    };
    let mut rows = Vec::new();
    for (account, policy) in accounts {
        let state = works.policies.states().into_iter().find(|state| state.account.as_ref() == Some(&account));
        let in_use = match state.as_ref().map(|state| state.in_use) {
            Some(InUse::Current) => "current",
            Some(InUse::LastGood) => "last good version",
            Some(InUse::Nothing) | None => "none",
        };
        let trouble = state.and_then(|state| state.trouble).map(|error| error_chain(&error));
        let mut stores = Vec::new();
        if let Ok(policy) = &policy {
            for spec in policy.stores() {
                let asking = async {
                    let store = works.stores.source(&account, &spec.id).await.map_err(|error| error_chain(&error))?;
                    SourceStore::spaces(&*store).await.map_err(|error| error_chain(&error))
                };
                let silent = || Err(format!("it does not tell its spaces within {} seconds", ANSWERS_WITHIN.as_secs()));
                let answers = within(asking).await.unwrap_or_else(silent);
                let named = policy.named_spaces().into_iter();
                covered.extend(
                    named.chain(answers.iter().flatten()).flat_map(|space| pairs_from(policy, space, &spec.id)),
                );
                stores.push(match answers {
                    Ok(spaces) => json!({ "store": spec.id.as_str(), "spaces": spaces.len() }),
                    Err(trouble) => json!({ "store": spec.id.as_str(), "trouble": trouble }),
                });
            }
        }
        rows.push(json!({ "account": account.as_str(), "policy": in_use, "trouble": trouble, "stores": stores }));
    }
    (rows, covered)
}

/// What is answered, if that is soon.
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

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn depth(queue: &Value) -> u64 {
    ["visible", "in_flight", "delayed"].iter().filter_map(|state| queue[*state].as_u64()).sum()
}

/// As of when a pair is in sync, or how much of it was queued; with what is not copied at all. What was queued need not differ:
/// some policies have all items compared, also those that are proven to be equal.
fn pair_state(pair: &Value, waiting: u64) -> String {
    let count = |counter: &str| pair[counter].as_u64().unwrap_or(0);
    let (queued, unproven) = (count("queued"), count("unproven"));
    let mut state = match (&pair["in_sync_as_of"], &pair["surveyed"]) {
        (Value::String(at), _) if queued > 0 => format!(
            "in sync as of {at}: listings and seals prove each item equal; {queued} were queued to be compared again, \
             {waiting} tasks wait"
        ),
        (Value::String(at), _) => format!("in sync as of {at}"),
        (_, Value::String(at)) if unproven < queued => format!(
            "{queued} to be compared or copied as of {at}, {unproven} of them not proven to be equal, {waiting} tasks wait"
        ),
        (_, Value::String(at)) => format!("{queued} to be compared or copied as of {at}, {waiting} tasks wait"),
        _ => "unknown".to_owned(),
    };
    for (count, what) in [
        (count("refused"), "refused"),
        (count("hidden"), "not seen"),
        (count("ignored"), "left out"),
        (count("held"), "deletes held back"),
    ] {
        if count > 0 {
            state = format!("{state}, {count} {what}");
        }
    }
    format!("{state}{}", failed_since(pair))
}

/// That a pair was looked at in vain, since it was last surveyed or at all: since when, and why.
fn failed_since(pair: &Value) -> String {
    let (Value::String(first), Value::String(last)) = (&pair["failed_since"], &pair["failed_last"]) else {
        return String::new();
    };
    let since = if pair["surveyed"].is_null() { "" } else { " since" };
    let again = if first == last { String::new() } else { format!(", last {last}") };
    format!("; looked at{since}, and failed: {first}{again} ({})", text(&pair["failed_reason"]))
}

/// When a loop began and ended, and when the next one is due.
fn run_state(run: &Value) -> String {
    format!(
        "last loop began {}, finished {}, next {}; {} morsels left",
        text(&run["run_started"]),
        text(&run["run_finished"]),
        text(&run["next_run"]),
        text(&run["morsels_left"])
    )
}

fn print(status: &Value) {
    let rows = |member: &str| status[member].as_array().cloned().unwrap_or_default();
    let columns = ["name", "visible", "in_flight", "delayed", "oldest_seconds"];
    let queues = rows("queues").into_iter().map(|queue| columns.map(|column| text(&queue[column])));
    line(table(["queue", "visible", "in flight", "delayed", "oldest, s"], queues));
    let producer = &status["duplication_producer"];
    let each_its_own = producer["one_loop"] == false;
    if each_its_own {
        line(format!(
            "\nduplication producer: each account has its own loop, see below; next {}; {} morsels left",
            text(&producer["next_run"]),
            text(&producer["morsels_left"])
        ));
    } else {
        line(format!("\nduplication producer: {}", run_state(producer)));
    }
    let runs: BTreeMap<&str, &Value> = producer["runs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|run| Some((run["account"].as_str()?, run)))
        .collect();
    for account in rows("accounts") {
        line(format!("\naccount {}: policy {}", text(&account["account"]), text(&account["policy"])));
        if !account["trouble"].is_null() {
            line(format!("  ! {}", text(&account["trouble"])));
        }
        let run = account["account"].as_str().and_then(|account| runs.get(account));
        if let Some(run) = run.filter(|_| each_its_own) {
            line(format!("  {}", run_state(run)));
        }
        for store in account["stores"].as_array().into_iter().flatten() {
            let how = match &store["trouble"] {
                Value::Null => format!("{} spaces", store["spaces"]),
                trouble => format!("! {}", text(trouble)),
            };
            line(format!("  store {}: {how}", text(&store["store"])));
        }
    }
    let waiting: u64 =
        rows("queues").iter().filter(|queue| queue["name"] != QueueName::DeadLetter.as_str()).map(depth).sum();
    let pairs = rows("pairs");
    if !pairs.is_empty() {
        line("");
    }
    for pair in pairs {
        let way = format!(
            "{}/{} ({} → {})",
            text(&pair["account"]),
            text(&pair["space"]),
            text(&pair["source"]),
            text(&pair["destination"])
        );
        line(format!("{way}: {}", pair_state(&pair, waiting)));
    }
    let letters = status["dead_letters_open"].as_u64().unwrap_or(0);
    line(format!("\ndead letters: {letters} {}", DeadLetterState::Open.as_str()));
}
