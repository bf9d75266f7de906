//! `mill status`: queues, producers, policies, stores, copies and dead letters at a glance.

use std::collections::BTreeMap;

use anyhow::Result;
use mill_app::config::Config;
use mill_app::counted::counted;
use mill_app::installation::Installation;
use mill_app::result_code::ResultCode;
use mill_app::status_report::{AccountStatus, FailureStatus, PairStatus, RunStatus, StatusReport, VerificationStatus};
use mill_records::dead_letters::DeadLetterState;

use crate::output::{line, table};

/// Runs it.
pub(super) async fn run(as_json: bool, config: &Config) -> Result<ResultCode> {
    let installation = Installation::configured(config).await?;
    let status = StatusReport::read(&installation, config).await?;
    if as_json {
        // Through a `Value`, which has its members in alphabetical order.
        line(serde_json::to_value(&status)?.to_string());
    } else {
        print(&status);
    }
    Ok(ResultCode::Done)
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// As of when a pair is in sync, or how much of it was queued; with what is not copied at all. Queued items need not
/// differ: some policies compare all items, even those that are proven equal.
fn pair_state(pair: &PairStatus, waiting: u64) -> String {
    let faults = pair.verification.as_ref().map_or(0, |verified| verified.faults);
    let mut state = match &pair.survey {
        None => "unknown".to_owned(),
        Some(survey) if faults > 0 && survey.count("queued") == 0 => {
            format!("nothing to be copied as of {}, by listings and sync proofs", survey.surveyed)
        }
        Some(survey) => {
            let (at, queued, unproven) = (&survey.surveyed, survey.count("queued"), survey.unproven);
            match &survey.in_sync_as_of {
                Some(at) if queued > 0 => format!(
                    "in sync as of {at}: listings and sync proofs prove each item equal; {queued} were queued to be compared \
                     again, {waiting} tasks wait"
                ),
                Some(at) => format!("in sync as of {at}"),
                None if unproven < queued => format!(
                    "{queued} to be compared or copied as of {at}, {unproven} of them not proven to be equal, {waiting} \
                     tasks wait"
                ),
                None => format!("{queued} to be compared or copied as of {at}, {waiting} tasks wait"),
            }
        }
    };
    let count = |counter| pair.survey.as_ref().map_or(0, |survey| survey.count(counter));
    for (count, what) in [
        (count("refused"), "refused"),
        (count("hidden"), "not seen"),
        (count("ignored"), "left out"),
        (pair.survey.as_ref().map_or(0, |survey| survey.held), "deletes held back"),
    ] {
        if count > 0 {
            state = format!("{state}, {count} {what}");
        }
    }
    format!("{state}{}{}", verified(pair), failed_since(pair))
}

/// What the last verification found.
fn verified(pair: &PairStatus) -> String {
    let Some(VerificationStatus { run, ended, sample, faults }) = &pair.verification else { return String::new() };
    let part = if *sample < 100 { format!(", {sample} % of it") } else { String::new() };
    if *faults == 0 {
        return format!("; verified {ended}{part}");
    }
    format!(
        "; NOT as it should be: the verification of {ended} found {} (`mill runs show {run}`); set right what it names, \
         then verify again",
        counted(*faults, "fault")
    )
}

/// The failed surveys of a pair since its last survey: since when, and why.
fn failed_since(pair: &PairStatus) -> String {
    let Some(FailureStatus { failed_since: Some(first), failed_last: last, failed_reason }) = &pair.failure else {
        return String::new();
    };
    let since = if pair.survey.is_none() { "" } else { " since" };
    let again = if first == last { String::new() } else { format!(", last {last}") };
    format!("; looked at{since}, and failed: {first}{again} ({failed_reason})")
}

/// When a loop began and ended, and when the next one is due.
fn run_state(run: &RunStatus) -> String {
    format!(
        "last loop began {}, finished {}, next {}; {} spaces left in it",
        or_dash(run.run_started.as_ref()),
        or_dash(run.run_finished.as_ref()),
        or_dash(run.next_run.as_ref()),
        run.morsels_left
    )
}

fn print(status: &StatusReport) {
    let queues = status.queues.iter().map(|queue| {
        let [visible, in_flight, delayed] = [queue.visible, queue.in_flight, queue.delayed].map(|it| it.to_string());
        [queue.name.clone(), visible, in_flight, delayed, or_dash(queue.oldest_seconds)]
    });
    line(table(["queue", "visible", "in flight", "delayed", "oldest, s"], queues));
    let producer = &status.duplication_producer;
    if producer.one_loop {
        line(format!("\nduplication producer: {}", run_state(&producer.run)));
    } else {
        line(format!(
            "\nduplication producer: each account has its own loop, see below; next {}; {} spaces left in them",
            or_dash(producer.run.next_run.as_ref()),
            producer.run.morsels_left
        ));
    }
    let runs: BTreeMap<&str, &RunStatus> = producer.runs.iter().map(|it| (it.account.as_str(), &it.run)).collect();
    for account in &status.accounts {
        let run = account.account.as_deref().and_then(|account| runs.get(account));
        print_account(account, run.copied().filter(|_| !producer.one_loop));
    }
    if !status.pairs.is_empty() {
        line("");
    }
    for pair in &status.pairs {
        let PairStatus { account, space, source, destination, .. } = pair;
        let state = pair_state(pair, status.tasks_waiting());
        line(format!("{account}/{space} ({source} → {destination}): {state}"));
    }
    line(format!("\ndead letters: {} {}", status.dead_letters_open, DeadLetterState::Open.as_str()));
}

fn print_account(account: &AccountStatus, run: Option<&RunStatus>) {
    line(format!("\naccount {}: policy {}", or_dash(account.account.as_ref()), or_dash(account.policy)));
    if let Some(trouble) = &account.trouble {
        line(format!("  ! {trouble}"));
    }
    if let Some(run) = run {
        line(format!("  {}", run_state(run)));
    }
    for store in account.stores.iter().flatten() {
        let how = match (&store.trouble, store.spaces) {
            (Some(trouble), _) => format!("! {trouble}"),
            (None, spaces) => format!("{} spaces", or_dash(spaces)),
        };
        line(format!("  store {}: {how}", store.store));
    }
}
