//! `mill policy`: check, show and explain.

use anyhow::Result;
use mill_app::config::Config;
use mill_app::config::layers::NoConfigurationError;
use mill_app::counted::counted;
use mill_app::policy_files::{PolicyFiles, PolicyUnreadable};
use mill_app::result_code::ResultCode;
use mill_model::SpaceId;
use mill_policy::AccountPolicy;

use crate::args::PolicyCommand;
use crate::output::{line, table};

/// Runs it.
pub(super) async fn run(args: PolicyCommand, config: impl AsyncFn() -> Result<Config>) -> Result<ResultCode> {
    match args {
        PolicyCommand::Check { folder: Some(folder) } => {
            // Only a configuration knows what relative roots are relative to.
            let base = match config().await {
                Ok(config) => config.base().to_owned(),
                Err(none) if none.is::<NoConfigurationError>() => folder.clone(),
                Err(wrong) => return Err(wrong),
            };
            check(&PolicyFiles::in_folder(&folder, &base)).await
        }
        PolicyCommand::Check { folder: None } => check(&PolicyFiles::configured(&config().await?).await?).await,
        PolicyCommand::Show { account } => {
            show(&read(&PolicyFiles::configured(&config().await?).await?, &account).await?);
            Ok(ResultCode::Done)
        }
        PolicyCommand::Explain { account, space } => {
            let policy = read(&PolicyFiles::configured(&config().await?).await?, &account).await?;
            let space = SpaceId::new(space)?;
            line(policy.for_space(&space).to_string());
            Ok(ResultCode::Done)
        }
    }
}

async fn check(files: &PolicyFiles) -> Result<ResultCode> {
    let found = files.check().await?;
    for diagnostic in &found.diagnostics {
        line(diagnostic.to_string());
    }
    let (errors, warnings) = (found.errors(), found.warnings());
    let (errors_found, warnings_found) = (counted(errors, "error"), counted(warnings, "warning"));
    line(format!("{} in `{}`: {errors_found}, {warnings_found}", counted(found.files, "policy file"), found.place));
    Ok(if errors > 0 {
        ResultCode::Error
    } else if warnings > 0 {
        ResultCode::Warnings
    } else {
        ResultCode::Done
    })
}

async fn read(files: &PolicyFiles, account: &str) -> Result<AccountPolicy> {
    let read = files.account(account).await;
    if let Some(PolicyUnreadable { diagnostics, .. }) = read.as_ref().err().and_then(|error| error.downcast_ref()) {
        for diagnostic in diagnostics {
            line(diagnostic.to_string());
        }
    }
    read
}

fn show(policy: &AccountPolicy) {
    line(format!("account {}", policy.account()));
    let stores = policy.stores().iter().map(|store| {
        let primary = if store.primary { "primary" } else { "" };
        let most = store.transfers_max.map_or_else(|| "-".to_owned(), |most| most.to_string());
        [store.id.to_string(), store.kind.type_name().to_owned(), store.kind.content_place(), primary.to_owned(), most]
    });
    line(table(["store", "type", "place", "", "transfers at most"], stores));
    for space in policy.named_spaces() {
        line(format!("\n{}", policy.for_space(space)));
    }
    line(format!("\n{}", policy.for_other_spaces()));
}
