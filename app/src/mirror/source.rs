//! Whether there is anything at the source: a mirror of a mistyped prefix, a single object or an empty folder is not in
//! sync.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use futures::TryStreamExt as _;
use mill_model::{ContentId, ItemAddress, SpaceId, SpacePair, StoreAddress};
use mill_ports::{Presence, SourceStore, StoreError, StoreErrorKind};
use mill_run::InSync;

use super::endpoint::Endpoint;
use super::known_pair::space_pair;
use crate::result_code::ResultCode;
use crate::run_summary::RunSummary;
use crate::s3_location::S3Location;
use crate::store_choice;
use crate::store_registry::FolderOpener;
use crate::subject_names::SubjectNames;
use crate::wait_limit::WaitLimit;

impl Endpoint {
    /// Whether the source is known to contain something: only then the destination is claimed for it before the run. An
    /// empty prefix is an error, because it looks the same as a wrong one; with `--remove-vanished` the survey
    /// continues and holds what vanished.
    ///
    /// # Errors
    /// A prefix is empty or names an object, or its bucket does not exist.
    pub(crate) async fn holds_something(
        &self,
        source: &dyn SourceStore,
        folders: &FolderOpener,
        (wait_limit, remove_vanished): (&WaitLimit, bool),
    ) -> Result<bool> {
        let remote = match self {
            Self::Folder(folder) => {
                let look = |path: &Path| Ok(std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()));
                return folder.look(wait_limit, look).await;
            }
            Self::S3(remote) => remote,
        };
        match lists_something(source, &space_pair()?.space).await {
            Ok(false) if !remote.prefix.is_empty() => {}
            Ok(found) => return Ok(found),
            // The survey could not say more than that it is absent.
            Err(error) if error.kind == StoreErrorKind::SpaceAbsent => return Err(error.into()),
            // It cannot be listed now. The survey reports that.
            Err(_) => return Ok(false),
        }
        if is_object(remote, folders).await? {
            let key = remote.prefix.trim_end_matches('/');
            bail!(
                "`s3://{}/{key}` is one object, and `mill mirror` copies what lies beneath a prefix; name the prefix in which \
                 it lies",
                remote.bucket
            );
        }
        if !remove_vanished {
            bail!("nothing lies beneath `{self}`: is it mistyped?");
        }
        Ok(false)
    }

    /// The exit code of a run that found nothing at this source and deleted nothing that a person confirmed.
    pub(crate) fn judge_nothing(&self, names: &SubjectNames, exit: ResultCode, summary: &mut RunSummary) -> ResultCode {
        let found = summary.totals.sum.survey.listed + summary.totals.work.deleted;
        if found > 0 || exit > ResultCode::Warnings {
            return exit;
        }
        match self {
            Self::S3(remote) if !remote.prefix.is_empty() => {
                summary.remarks.push(format!("nothing lies beneath `{self}`: is it mistyped?"));
                summary.in_sync = InSync::No;
                ResultCode::Error
            }
            _ => {
                summary
                    .remarks
                    .push(format!("{} holds nothing: is it the right one, and is it mounted?", names.source()));
                ResultCode::Warnings
            }
        }
    }
}

/// Whether a listing of the only space of a mirror's end has an entry.
///
/// # Errors
/// It cannot be listed.
pub(super) async fn lists_something(end: &dyn SourceStore, space: &SpaceId) -> Result<bool, StoreError> {
    let mut pages = end.list(space, None);
    while let Some(page) = pages.try_next().await? {
        if page.end || !page.entries.is_empty() {
            return Ok(!page.entries.is_empty());
        }
    }
    Ok(false)
}

/// Whether the prefix, without its last slash, is the key of an object.
async fn is_object(remote: &S3Location, folders: &FolderOpener) -> Result<bool> {
    let SpacePair { account, source: store, space, .. } = space_pair()?;
    let bucket = S3Location { prefix: String::new(), ..remote.clone() };
    let address = StoreAddress { account, store };
    let opened = store_choice::open_location(&bucket, (address, &space), folders).await?;
    let id = ContentId::new(remote.prefix.trim_end_matches('/')).context("the prefix is no key")?;
    Ok(matches!(opened.store.head(&ItemAddress { space, id }).await?, Presence::Present(_)))
}
