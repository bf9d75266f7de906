//! `mill status`: queues, producers, policies, stores and dead letters at a glance.

use anyhow::Result;
use mill_model::QueueName;
use mill_ports::{SourceStore, chain};
use mill_producer::DuplicationProducer;
use mill_records::dead_letters::LetterState;
use mill_records::policies::InUse;
use mill_records::producer_state::ProducerState;
use serde_json::{Value, json};

use crate::config::Config;
use crate::exit::Exit;
use crate::output::{line, table};
use crate::works::Works;

/// Runs it.
pub(super) async fn run(as_json: bool, config: &Config) -> Result<Exit> {
    let works = Works::configured(config).await?;
    works.drain_dead_letters().await?;
    let status = json!({
        "queues": queues(&works).await?,
        "duplication_producer": producer(&works, config).await?,
        "accounts": accounts(&works).await,
        "dead_letters_open": super::dead_letters::open(&works).await?,
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
            "delayed": depth.delayed, "oldest_seconds": depth.oldest.map(|age| age.as_secs()) }));
    }
    Ok(rows)
}

async fn producer(works: &Works, config: &Config) -> Result<Value> {
    let table = works.engine.table("producer-state");
    let state = ProducerState::to_read(table, works.engine.clock.clone(), DuplicationProducer::BOOK);
    let loaded = state.load(false).await?;
    let frequency = config.duration("producer.frequency")?;
    let run = loaded.run.map(|run| run.row);
    Ok(json!({
        "run_started": run.as_ref().map(|run| run.started.to_string()),
        "run_finished": run.as_ref().and_then(|run| run.finished).map(|at| at.to_string()),
        "next_run": run.as_ref().map(|run| run.started.plus(frequency).to_string()),
        "morsels_left": loaded.morsels.len(),
    }))
}

async fn accounts(works: &Works) -> Vec<Value> {
    let accounts = match works.policies.accounts().await {
        Ok(accounts) => accounts,
        Err(error) => return vec![json!({ "account": null, "trouble": chain(&error) })],
    };
    let mut rows = Vec::new();
    for (account, policy) in accounts {
        let state = works.policies.states().into_iter().find(|state| state.account.as_ref() == Some(&account));
        let in_use = match state.as_ref().map(|state| state.in_use) {
            Some(InUse::Current) => "current",
            Some(InUse::LastGood) => "last good version",
            Some(InUse::Nothing) | None => "none",
        };
        let trouble = state.and_then(|state| state.trouble).map(|error| chain(&error));
        let mut stores = Vec::new();
        if let Ok(policy) = &policy {
            for spec in policy.stores() {
                let answers = match works.stores.source(&account, &spec.id).await {
                    Ok(store) => SourceStore::spaces(&*store).await.map(|spaces| spaces.len()),
                    Err(error) => Err(error),
                };
                stores.push(match answers {
                    Ok(spaces) => json!({ "store": spec.id.as_str(), "spaces": spaces }),
                    Err(error) => json!({ "store": spec.id.as_str(), "trouble": chain(&error) }),
                });
            }
        }
        rows.push(json!({ "account": account.as_str(), "policy": in_use, "trouble": trouble, "stores": stores }));
    }
    rows
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn print(status: &Value) {
    let rows = |member: &str| status[member].as_array().cloned().unwrap_or_default();
    let columns = ["name", "visible", "in_flight", "delayed", "oldest_seconds"];
    let queues = rows("queues").into_iter().map(|queue| columns.map(|column| text(&queue[column])));
    line(table(["queue", "visible", "in flight", "delayed", "oldest, s"], queues));
    let producer = &status["duplication_producer"];
    line(format!(
        "\nduplication producer: last loop began {}, finished {}, next {}; {} morsels left",
        text(&producer["run_started"]),
        text(&producer["run_finished"]),
        text(&producer["next_run"]),
        text(&producer["morsels_left"])
    ));
    for account in rows("accounts") {
        line(format!("\naccount {}: policy {}", text(&account["account"]), text(&account["policy"])));
        if !account["trouble"].is_null() {
            line(format!("  ! {}", text(&account["trouble"])));
        }
        for store in account["stores"].as_array().into_iter().flatten() {
            let how = match &store["trouble"] {
                Value::Null => format!("{} spaces", store["spaces"]),
                trouble => format!("! {}", text(trouble)),
            };
            line(format!("  store {}: {how}", text(&store["store"])));
        }
    }
    let letters = status["dead_letters_open"].as_u64().unwrap_or(0);
    line(format!("\ndead letters: {letters} {}", LetterState::Open.as_str()));
}
