//! Parses values.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// A value of a type with `FromStr`.
pub(crate) fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(text: D) -> Result<T, D::Error> {
    String::deserialize(text)?.parse().map_err(D::Error::custom)
}

/// A whole number.
pub(crate) fn number<'de, D: Deserializer<'de>, T: FromStr>(text: D) -> Result<T, D::Error> {
    String::deserialize(text)?
        .parse()
        .map_err(|_| D::Error::custom("it must be a whole number, and not too large a one"))
}

/// A text; `None` for an empty one.
pub(crate) fn given<'de, D: Deserializer<'de>>(text: D) -> Result<Option<String>, D::Error> {
    Ok(Some(String::deserialize(text)?).filter(|text| !text.is_empty()))
}

/// A part of a hundred.
pub(crate) fn percent<'de, D: Deserializer<'de>>(text: D) -> Result<u8, D::Error> {
    number(text)
        .ok()
        .filter(|percent| *percent <= 100)
        .ok_or_else(|| D::Error::custom("it must be a whole number from 0 to 100"))
}

/// A duration such as `90s`, `5m`, `1d`.
pub(crate) fn duration<'de, D: Deserializer<'de>>(text: D) -> Result<Duration, D::Error> {
    one_duration(&String::deserialize(text)?)
}

/// Durations, separated by commas.
pub(crate) fn durations<'de, D: Deserializer<'de>>(text: D) -> Result<Vec<Duration>, D::Error> {
    parts(&String::deserialize(text)?).map(one_duration).collect()
}

fn one_duration<E: serde::de::Error>(text: &str) -> Result<Duration, E> {
    humantime::parse_duration(text)
        .map_err(|_| E::custom("it must be a duration with its unit, such as `500ms`, `90s`, `5m` or `1d`"))
}

/// Values, separated by commas.
pub(crate) fn list<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(text: D) -> Result<Vec<T>, D::Error> {
    parts(&String::deserialize(text)?).map(|part| part.parse().map_err(D::Error::custom)).collect()
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// A number that is not zero.
pub(crate) fn one_or_more<'de, D: Deserializer<'de>, T: TryFrom<usize>>(text: D) -> Result<T, D::Error> {
    let one_or_more: usize = number(text)?;
    one_or_more.try_into().map_err(|_| D::Error::custom("it must be 1 or more"))
}

/// How many tasks a producer's queue may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueMax {
    /// As many as keep all workmen busy until the producer looks again.
    Auto,
    /// This number.
    Tasks(u64),
}

impl FromStr for QueueMax {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            number => number.parse().map(Self::Tasks).map_err(|_| "it must be `auto` or a whole number"),
        }
    }
}
