//! Deletes that wait for a person.

use std::sync::Arc;

use anyhow::Result;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use mill_model::AccountId;
use mill_ports::Engine;
use mill_records::delete_lists::{DeleteListError, DeleteLists, DeletionScope, HeldList};
use serde::Serialize;

use crate::UsageError;
use crate::config::Config;
use crate::engine_choice;
use crate::mirror::{self, MirrorRequest};
use crate::wait_limit::WaitLimit;

/// What a person confirms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmation {
    /// The only held list, if it has at most this many items.
    Count(u64),
    /// The list of this token.
    Token(String),
}

impl std::str::FromStr for Confirmation {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| Self::Token(text.to_owned()), Self::Count))
    }
}

/// A list of deletes that wait for a person.
#[derive(Debug, Clone, Serialize)]
pub struct HeldDeleteList {
    /// Its name.
    pub token: String,
    /// The account.
    pub account: String,
    /// The space.
    pub space: String,
    /// The store from which the items are gone.
    pub source: String,
    /// The store at which they would be deleted.
    pub destination: String,
    /// The id of the list.
    pub list: String,
    /// How many items it names.
    pub count: u64,
    /// How many items the space has.
    pub items_total: u64,
    /// When the survey found that.
    pub surveyed: String,
    /// Why they are held, in words.
    pub why: String,
    /// Where the items are, in words.
    #[serde(skip)]
    pub place: String,
    /// Whether the space as a whole is gone.
    #[serde(skip)]
    pub whole_space: bool,
    #[serde(skip)]
    held: HeldList,
}

impl HeldDeleteList {
    fn of(held: HeldList) -> Self {
        let (pair, list) = (&held.pair, &held.head.record);
        Self {
            token: held.token().to_string(),
            account: pair.account.as_str().to_owned(),
            space: pair.space.as_str().to_owned(),
            source: pair.source.as_str().to_owned(),
            destination: pair.destination.as_str().to_owned(),
            list: held.list.to_string(),
            count: list.count,
            items_total: list.items_total,
            surveyed: list.made_at().to_string(),
            why: list.held().map_or_else(|| "of a reason unknown to this version".to_owned(), ToString::to_string),
            place: place(&held),
            whole_space: list.of == DeletionScope::Space,
            held,
        }
    }
}

/// The deletes of an installation, or of a mirror, that wait for a person.
#[derive(Debug)]
pub struct HeldDeleteReview {
    lists: DeleteLists,
    engine: Arc<dyn Engine>,
}

impl HeldDeleteReview {
    /// Those of an engine.
    pub fn of(engine: &Arc<dyn Engine>) -> Self {
        Self { lists: DeleteLists::new(engine.table(DeleteLists::TABLE)), engine: engine.clone() }
    }

    /// Those of the installation that a configuration describes.
    ///
    /// # Errors
    /// When its engine cannot be opened.
    pub async fn configured(config: &Config) -> Result<Self> {
        Ok(Self::of(&engine_choice::open_engine(config, false, &WaitLimit::endless()).await?))
    }

    /// Those of a mirror.
    ///
    /// # Errors
    /// When there was no such mirror yet, or its state cannot be opened.
    pub async fn of_mirror(request: &MirrorRequest) -> Result<Self> {
        Ok(Self::of(&mirror::engine_of(request).await?))
    }

    /// All lists.
    ///
    /// # Errors
    /// When the table does not answer or cannot be read.
    pub async fn list(&self) -> Result<Vec<HeldDeleteList>> {
        Ok(self.lists.held().await?.into_iter().map(HeldDeleteList::of).collect())
    }

    /// The list of a token.
    ///
    /// # Errors
    /// A wrong token is a wrong argument.
    pub async fn show(&self, token: &str) -> Result<HeldDeleteList> {
        Ok(HeldDeleteList::of(self.by_token(token).await?))
    }

    /// The ids of the items of a list, in order.
    pub fn items(&self, list: &HeldDeleteList) -> BoxStream<'static, Result<String, DeleteListError>> {
        Box::pin(self.lists.ids(&list.held.pair, list.held.list).map_ok(|listed| listed.id.to_string()))
    }

    /// Confirms a list: the next run deletes those of its items that are still gone by then.
    ///
    /// # Errors
    /// A wrong token is a wrong argument.
    pub async fn confirm(&self, token: &str, by: &str) -> Result<HeldDeleteList> {
        let mut held = self.by_token(token).await?;
        self.lists.grant(&mut held, by, self.engine.clock().now()).await?;
        Ok(HeldDeleteList::of(held))
    }

    /// Withdraws a list. The next run holds again what is still gone by then.
    ///
    /// # Errors
    /// A wrong token is a wrong argument.
    pub async fn withdraw(&self, token: &str) -> Result<HeldDeleteList> {
        let mut held = self.by_token(token).await?;
        self.lists.withdraw(&mut held).await?;
        Ok(HeldDeleteList::of(held))
    }

    /// Confirms what a person confirmed together with a run, before that run, which deletes it.
    ///
    /// # Errors
    /// A count that does not identify exactly one list, or an unknown token, is a wrong argument.
    pub async fn confirm_for_run(&self, confirmation: Option<&Confirmation>, by: &str) -> Result<()> {
        let token = match confirmation {
            None => return Ok(()),
            Some(Confirmation::Token(token)) => token.clone(),
            Some(Confirmation::Count(most)) => {
                let held = self.lists.held().await?;
                match held.as_slice() {
                    [one] if one.count() <= *most => one.token().to_string(),
                    _ => return Err(UsageError(not_one_list(&held, *most)).into()),
                }
            }
        };
        self.confirm(&token, by).await?;
        Ok(())
    }

    async fn by_token(&self, token: &str) -> Result<HeldList> {
        match self.lists.by_token(token).await {
            Err(error @ DeleteListError::NoSuchToken { .. }) => {
                let held = self.lists.held().await?;
                let those = if held.is_empty() { "; nothing is held" } else { "; held are:" };
                Err(UsageError(format!("{error}{those}{}", token_lines(&held, ""))).into())
            }
            other => Ok(other?),
        }
    }
}

fn not_one_list(held: &[HeldList], most: u64) -> String {
    if held.is_empty() {
        return "--confirm-deletes lets go what an earlier run held, and nothing is held: run without it first".into();
    }
    format!(
        "--confirm-deletes {most} does not say which of the held deletes may go; name one by its token:{}",
        token_lines(held, "--confirm-deletes ")
    )
}

/// One line for each list, with its token; `before` precedes the token.
fn token_lines(held: &[HeldList], before: &str) -> String {
    let line = |held: &HeldList| format!("\n  {} items of {}: {before}{}", held.count(), place(held), held.token());
    held.iter().map(line).collect::<Vec<_>>().concat()
}

/// Where the items are, in words that a person knows.
fn place(held: &HeldList) -> String {
    let pair = &held.pair;
    if AccountId::new("mirror").is_ok_and(|mirror| mirror == pair.account) && pair.space.as_str() == "content" {
        return "the destination".into();
    }
    format!("space `{}` in store {} of account `{}`", pair.space, pair.destination, pair.account)
}
