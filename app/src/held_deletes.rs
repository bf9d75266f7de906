//! Deletes that wait for a person.

use anyhow::Result;
use mill_model::{AccountId, Timestamp};
use mill_ports::Clock;
use mill_records::delete_lists::{DeleteListError, DeleteLists, HeldList, HoldReason};

use crate::UsageError;

/// What a person lets go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmation {
    /// The one held list, if it has at most so many items.
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

/// Lets go what a person confirmed on the command line, before the run that deletes it.
///
/// # Errors
/// A count that does not mean exactly one list, or an unknown token, is a wrong argument.
pub async fn confirm(
    lists: &DeleteLists,
    confirmation: Option<&Confirmation>,
    by: &str,
    clock: &dyn Clock,
) -> Result<()> {
    let token = match confirmation {
        None => return Ok(()),
        Some(Confirmation::Token(token)) => token.clone(),
        Some(Confirmation::Count(most)) => {
            let held = lists.held().await?;
            match held.as_slice() {
                [one] if one.count() <= *most => one.token().to_string(),
                _ => return Err(UsageError(not_one_list(&held, *most)).into()),
            }
        }
    };
    grant(lists, &token, by, clock).await?;
    Ok(())
}

fn not_one_list(held: &[HeldList], most: u64) -> String {
    if held.is_empty() {
        return "--confirm-deletes lets go what an earlier run held, and nothing is held: run without it first".into();
    }
    let lists: Vec<String> = held
        .iter()
        .map(|held| format!("\n  {} items of {}: --confirm-deletes {}", held.count(), place(held), held.token()))
        .collect();
    format!(
        "--confirm-deletes {most} does not say which of the held deletes may go; name one by its token:{}",
        lists.concat()
    )
}

/// Lets a list go.
///
/// # Errors
/// An unknown token is a wrong argument.
pub async fn grant(lists: &DeleteLists, token: &str, by: &str, clock: &dyn Clock) -> Result<HeldList> {
    let mut held = found(lists, token).await?;
    lists.grant(&mut held, by, clock.now()).await?;
    Ok(held)
}

/// The list of a token. A wrong token is a wrong argument.
pub async fn found(lists: &DeleteLists, token: &str) -> Result<HeldList> {
    match lists.by_token(token).await {
        Err(error @ DeleteListError::NoSuchToken { .. }) => Err(UsageError(error.to_string()).into()),
        other => Ok(other?),
    }
}

/// Where the items are: as a person knows it.
pub fn place(held: &HeldList) -> String {
    let pair = &held.pair;
    if AccountId::new("mirror").is_ok_and(|mirror| mirror == pair.account) && pair.space.as_str() == "content" {
        return "the destination".into();
    }
    format!("space `{}` in store {} of account `{}`", pair.space, pair.destination, pair.account)
}

/// Why deletes are held, in words.
pub fn why(reason: Option<&HoldReason>) -> String {
    match reason {
        Some(HoldReason::TooMany { unasked_today: 0 }) => "they are more than may be deleted unasked".into(),
        Some(HoldReason::TooMany { unasked_today }) => {
            format!("with the {unasked_today} of the last 24 hours they are more than may be deleted unasked")
        }
        Some(HoldReason::Unproven { count }) => {
            format!("{count} of them were neither written by mill nor ever seen at this source")
        }
        Some(HoldReason::PlaceChanged { path }) if path.is_empty() => {
            "another disk or folder than before stands at the source".into()
        }
        Some(HoldReason::PlaceChanged { path }) => {
            format!("what was mounted at `{path}` of the source is not there, or something else is")
        }
        Some(HoldReason::HeldBefore) => "they were held before, and are still missing".into(),
        Some(HoldReason::PlacesUnknown) => {
            "mill had not seen the disks of this source before, so it cannot know whether one of them is missing".into()
        }
        Some(HoldReason::ListWithdrawn) => "a person dropped the list in which some of them stood".into(),
        Some(HoldReason::TooMuchHidden) => "too many folders of the source could not be entered".into(),
        Some(HoldReason::SpaceMissing { since, for_a_day }) => {
            let since = Timestamp::from_millis(*since);
            let day = if *for_a_day { "" } else { "; it can be confirmed after a day" };
            format!("the source space itself is missing since {since}{day}")
        }
        None => "of a reason unknown to this version".into(),
    }
}
